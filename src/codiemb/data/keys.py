"""Keys of a record that nobody reads: bookkeeping, or a slip that leaves out negatives without a word."""

from collections.abc import Mapping
from difflib import get_close_matches

from codiemb.data.records import KEYS, RAW_KEYS

# Names that data sets use for what is not trained on; so does every name that begins with an underscore.
_BOOKKEEPING = """
    id ids idx index uid uuid guid qid pid query_id doc_id docid document_id corpus_id passage_id positive_ids
    negative_ids source sources dataset dataset_name subset split origin file filename path meta metadata info
    extra comment comments note notes tag tags url link license lang language domain topic version date time
    timestamp created author hash md5 sha1 sha256
"""
BOOKKEEPING = frozenset(_BOOKKEEPING.split())
_OF_EXPORT = frozenset({"id", "positive_ids", "negative_ids"})  # data_prep's own: worth no line
_OTHER_NAMES = {
    "query": "anchor question sentence sentence1 sent1 source_text instruction prompt input",
    "positives": "pos passage passages doc docs document documents answer answers sentence2 sent2 response",
    "negatives": "neg negs hard_negative hard_negatives hn rejected",
    "positive_scores": "score scores label labels similarity pos_score pos_scores",
    "negative_scores": "neg_score neg_scores",
    "task_type": "task type",
    "text": "content body raw",
}
_MEANT = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}


def is_bookkeeping(key: str) -> bool:
    """Whether a key is by its name none that was meant to be read."""
    return key.startswith("_") or key.lower() in BOOKKEEPING


def unread_keys(unknown: Mapping[str, int], num_records: int) -> tuple[str, str]:
    """What to warn of, and what is worth no more than a remark; "" for nothing."""
    slips = {key: count for key, count in unknown.items() if not is_bookkeeping(key)}
    rest = {key: count for key, count in unknown.items() if is_bookkeeping(key)}
    remark = "" if rest.keys() <= _OF_EXPORT else _listed(rest, num_records)
    return _listed(slips, num_records), remark


def _listed(keys: Mapping[str, int], num_records: int) -> str:
    return ", ".join(
        f"{key[:60]!r} in {count:,} of {num_records:,} records{_hint(key)}"
        for key, count in sorted(keys.items(), key=lambda item: -item[1])[:20]
    )


def _hint(key: str) -> str:
    if is_bookkeeping(key):
        return ""
    known = sorted(KEYS | RAW_KEYS)
    meant = get_close_matches(key.lower().replace("-", "_"), known, 1, 0.7) or [_MEANT.get(key.lower(), "")]
    return f" (did you mean {meant[0]}?)" if meant[0] else ""
