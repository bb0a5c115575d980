"""Retrieval data from the docstrings of installed packages: summary -> the rest of its documentation."""

from data_prep.docs.build import build_docs

__all__ = ["build_docs"]
