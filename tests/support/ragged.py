"""Ragged groups and options of InfoNCE."""

from tests.support.batches import make_batch

RAGGED = [(1, 2), (3, 0), (2, 4), (1, 0), (2, 1)]
OPTIONS = {
    "aligned": {"other_positives": "aligned"},
    "unmasked": {"mask_false_negatives": False},
    "margin_absolute": {"margin_absolute": 0.1},
    "margin_percent": {"margin_percent": 0.8},
    "out_of_batch": {"in_batch": False},
    "symmetric": {"symmetric": True},
    "query_query": {"query_query": True},
    "document_document": {"document_document": True},
    "document_query": {"document_query": True},
    "positive_twice": {"document_query": True, "positive_twice": True},
}


def ragged_batch(**options):
    """Five ragged groups with every kind of duplicate a text can have.

    The positive of query 0 is a hard negative of query 2 (document 8) and the positive of query 3 (12); query
    4 has the text of query 1; documents 9 and 14 have the texts of queries 2 and 3.
    """
    hashes = [1000 + k for k in range(16)]
    hashes[8], hashes[12], hashes[9], hashes[14] = 1000, 1000, 2, 3
    return make_batch(RAGGED, document_hash=hashes, query_hash=[0, 1, 2, 3, 1], **options)
