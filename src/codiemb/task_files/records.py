"""Our own training records as a task: IR as retrieval over all their documents, STS as graded pairs."""

from collections.abc import Iterator

import pyarrow as pa
import xxhash

from codiemb.data.records import BadLine, Record, Text
from codiemb.data.scan import Scan
from codiemb.errors import UserError
from codiemb.task_files.found import RECORDS, Found
from codiemb.task_files.judged import Judged
from codiemb.task_files.rows import Rows, refuse_one_value

TASK_OF = {"retrieval": "ir", "sts": "sts"}


class RecordInstructions:
    """Which instructions the records give their queries, or all their texts where they are graded."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._seen: dict[str, None] = {}  # in order; two are enough to know that they differ

    def look(self, *texts: Text) -> None:
        """At those of one record."""
        for instruction, _ in texts:
            if len(self._seen) < 2:
                self._seen.setdefault(instruction)

    def agreed(self) -> str:
        """The one of all records.

        Raises:
            UserError: they have several.
        """
        if len(self._seen) > 1:
            first, second = self._seen
            name = self._found.name
            raise UserError(
                f"{self._found.files[RECORDS][0]}: its records have several instructions ({first!r}, "
                f"{second!r}, ...), and a task has one: set task.instructions.{name}.query, as in "
                f"'+task.instructions.{name}={{query: \"{first or second}\"}}', or instruction in "
                f"{self._found.folder / 'task.yaml'}"
            )
        return next(iter(self._seen), "")


class _Ids:
    """Numbers texts by a hash of 128 bits: equal ones are one."""

    def __init__(self, letter: str) -> None:
        self.rows = Rows(id=pa.string(), text=pa.string())
        self._letter = letter
        self._numbers: dict[bytes, int] = {}

    def id(self, text: str) -> str:
        """Of a text; a new one becomes a row."""
        key, number = xxhash.xxh3_128_digest(text.encode()), len(self._numbers)
        found = self._numbers.setdefault(key, number)
        if found == number:
            self.rows.add(f"{self._letter}{found}", text)
        return f"{self._letter}{found}"


def read_ir(found: Found, instructions: RecordInstructions) -> Judged:
    """Every query searches the documents of all records, its positives are relevant.

    Equal texts are one query, or one document. Memory: the texts once, as Arrow, and a hash of each.

    Raises:
        UserError: a bad record, or one of another task.
    """
    queries, corpus = _Ids("q"), _Ids("d")
    qrels: dict[str, dict[str, int]] = {}
    for record in _records(found):
        instructions.look(record.query)
        grades = qrels.setdefault(queries.id(record.query.text), {})
        for _, text in record.positives:
            grades[corpus.id(text)] = 1
        for _, text in record.negatives:
            corpus.id(text)
    return Judged(corpus.rows.table(), queries.rows.table(), qrels, None)


def read_sts(found: Found, instructions: RecordInstructions) -> pa.Table:
    """Each query with each of its documents and their score, in [0, 1].

    Raises:
        UserError: a bad record, one of another task, or scores that are all equal.
    """
    rows = Rows(sentence1=pa.string(), sentence2=pa.string(), score=pa.float64())
    seen = set[float]()
    for record in _records(found):
        documents = [*record.positives, *record.negatives]
        scores = [*record.positive_scores, *record.negative_scores]
        instructions.look(record.query, *documents)
        for (_, text), score in zip(documents, scores, strict=True):
            rows.add(record.query.text, text, score)
            if len(seen) < 2:
                seen.add(score)
    refuse_one_value(found.files[RECORDS][0], seen, "score")
    return rows.table()


def _records(found: Found) -> Iterator[Record]:
    """Raises UserError at the first bad record."""
    task = TASK_OF[found.kind]
    for path in found.files[RECORDS]:
        for number, item in enumerate(Scan(path, found.score_range or (0.0, 1.0)), start=1):
            if isinstance(item, BadLine):
                raise UserError(f"{item.where}: {item.problem}{_range_hint(item.problem)}")
            if item.task != task:
                raise UserError(
                    f"{path}: record {number} has task_type {item.task!r}, and the first one {task!r}: one "
                    "task has records of one type (ir or sts); put the others into a folder of their own"
                )
            yield item


def _range_hint(problem: str) -> str:
    return " in task.yaml (score_range: [LOWEST, HIGHEST])" if "score_range" in problem else ""
