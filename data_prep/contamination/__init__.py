"""Texts of a source that stand on the test side of an evaluation."""
