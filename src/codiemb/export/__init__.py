"""A trained encoder as a folder that sentence-transformers and transformers load."""

from codiemb.export.sentence_transformer import export_cosine, export_sentence_transformer

__all__ = ["export_cosine", "export_sentence_transformer"]
