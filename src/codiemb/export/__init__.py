"""A trained encoder as a folder that sentence-transformers and transformers load."""

from codiemb.export.card import Card, DataFile, Score, write_card
from codiemb.export.sentence_transformer import export_sentence_transformer
from codiemb.export.verify import TOLERANCE, export_cosine

__all__ = [
    "TOLERANCE",
    "Card",
    "DataFile",
    "Score",
    "export_cosine",
    "export_sentence_transformer",
    "write_card",
]
