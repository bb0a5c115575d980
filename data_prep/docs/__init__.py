"""Retrieval data from the docstrings of installed packages: summary -> the rest of its documentation."""
