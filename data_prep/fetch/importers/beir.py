"""BEIR folders: corpus.jsonl and queries.jsonl with `_id`, `title`, `text`; qrels/SPLIT.tsv with a header."""

from data_prep.fetch.importers.tables import document, judgement, query
from data_prep.fetch.raw import Converts

FILES: Converts = {
    "corpus": (document, {"id": "_id", "title": "title", "text": "text"}),
    "queries": (query, {"id": "_id", "text": "text"}),
    "qrels": (judgement, {"query": "query-id", "document": "corpus-id", "grade": "score"}),
}
