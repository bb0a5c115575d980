"""Count the records of a file: lengths, documents, languages, scores, different texts, tokens of an epoch."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import xxhash

from codiemb.data import Record, TaskSpec, Text, content_hash
from codiemb.data.collator import is_symmetric
from codiemb.data.records import RAW_TASKS
from codiemb.encoder.tokenization import PromptTemplate
from codiemb.text_encoder import Side
from data_prep.languages import language_of
from data_prep.statistics.counts import Counts
from data_prep.token_counts import count_tokens

_RECORDS = 512  # tokenised together
_REMEMBERED = 2**20


class KnownLengths:
    """Lengths by text, so that a hard negative of many queries is tokenised once: of docs a tenth is left.

    At most a million texts are remembered, some 100 MB; further ones are measured each time.
    """

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def of(self, texts: Sequence[str], measure: Callable[[Sequence[str]], list[int]]) -> list[int]:
        """The length of each text; `measure` is asked for those that are new."""
        keys = [xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        found = dict(zip(new, measure(list(new.values())), strict=True)) if new else {}
        lengths = [found[key] if key in found else self._known[key] for key in keys]
        if len(self._known) < _REMEMBERED:
            self._known |= found
        return lengths


class Ruler(NamedTuple):
    """How texts are measured: in tokens as the trainer counts them, or in characters.

    Attributes:
        tokenizer: folder or name; "" measures characters, without prompts.
        template: the prompts, which count as tokens.
        tasks: limits and numbers of documents of the plan, by task.
        known: lengths of texts that were measured before.
    """

    tokenizer: str
    template: PromptTemplate
    tasks: Mapping[str, TaskSpec]
    known: KnownLengths

    def __call__(self, texts: Sequence[tuple[Side, Text]]) -> list[int]:
        """The length of each text with its prompt and special tokens."""
        if not self.tokenizer:
            return [len(text.text) for _, text in texts]
        whole = [self.template.prompt(text.instruction, side) + text.text for side, text in texts]
        return self.known.of(whole, lambda new: count_tokens(self.tokenizer, new, special=True))


def count_records(records: Iterable[Record], ruler: Ruler) -> dict[str, Counts]:
    """By task. `records` is read once, 512 at a time."""
    counts: dict[str, Counts] = {}
    rest = iter(records)
    while block := list(islice(rest, _RECORDS)):
        sides = [_texts(record) for record in block]
        lengths = iter(ruler([text for texts in sides for text in texts]))
        for record, texts in zip(block, sides, strict=True):
            own = [next(lengths) for _ in texts]
            _add(counts.setdefault(record.task, Counts()), record, own, ruler.tasks.get(record.task))
    return counts


def _texts(record: Record) -> list[tuple[Side, Text]]:
    """The query and then the documents; a raw text is a document."""
    if record.task in RAW_TASKS:
        return [("document", record.query)]
    symmetric = is_symmetric(record)
    documents = [*record.positives, *record.negatives]
    side: Side = "text" if symmetric else "document"
    return [("text" if symmetric else "query", record.query), *((side, text) for text in documents)]


def _add(counts: Counts, record: Record, lengths: Sequence[int], spec: TaskSpec | None) -> None:
    raw = record.task in RAW_TASKS
    queries = [] if raw else [record.query.text]
    documents = [record.query.text] if raw else [text for _, text in (*record.positives, *record.negatives)]
    counts.records += 1
    counts.lengths["query"].update(lengths[: len(queries)])
    counts.lengths["document"].update(lengths[len(queries) :])
    for side, texts in (("query", queries), ("document", documents)):
        looks = [_look(text) for text in texts]
        counts.texts[side].add(digest for digest, _ in looks)
        counts.languages[side].update(language or "" for _, language in looks)
    if not raw:
        counts.documents["positive"][len(record.positives)] += 1
        counts.documents["negative"][len(record.negatives)] += 1
    for kind, scores in (("positive", record.positive_scores), ("negative", record.negative_scores)):
        counts.scores[kind].update(round(score, 2) for score in scores if not math.isnan(score))
    if spec is not None:
        counts.epoch_tokens += sum(_expected(record, lengths, spec))


@lru_cache(maxsize=2**15)
def _look(text: str) -> tuple[int, str | None]:
    """Hash and language. Mined documents come again and again: 0.2 ms for each is most of the time."""
    return content_hash(text), language_of(text)


def _expected(record: Record, lengths: Sequence[int], spec: TaskSpec) -> Iterator[float]:
    """Tokens of a record in an epoch: as many documents of each side as are drawn, each as likely."""
    if record.task in RAW_TASKS:
        windows = spec.num_windows
        yield lengths[0] if windows is None else min(lengths[0], windows * spec.max_document_tokens)
        return
    yield min(lengths[0], spec.max_query_tokens)
    cut = [min(length, spec.max_document_tokens) for length in lengths[1:]]
    border = len(record.positives)
    for side, limit in ((cut[:border], spec.num_positives), (cut[border:], spec.num_negatives)):
        if side:
            yield sum(side) * (1.0 if limit is None else min(1.0, limit / len(side)))
