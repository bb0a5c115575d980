"""Writes docs/configuration.md from the typed schema, the docstrings and the files of conf."""
