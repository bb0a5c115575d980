"""The unified format (docs/method.md section 1): the fields of a row as a record, or why they are none."""

import json
import math
import unicodedata
from collections import Counter
from itertools import repeat
from typing import Any, NamedTuple

from codiemb.raw_files.problems import Problem, one_of_each

GRADED_TASKS = frozenset({"sts"})  # every positive needs a score; instructions stand on both sides
MIXED_TASKS = frozenset({"mixed"})  # IR and STS records in one batch: graded where a record has scores
RAW_TASKS = frozenset({"lm"})  # one text and nothing else: language-model training
KNOWN_TASKS = frozenset({"ir"}) | GRADED_TASKS | MIXED_TASKS | RAW_TASKS
KEYS = frozenset({"task_type", "query", "positives", "negatives", "positive_scores", "negative_scores"})
RAW_KEYS = frozenset({"task_type", "text"})
MAX_REPORTED = 20
_NO_TASK = "task_type is missing"
OTHER_COLUMNS = (  # what to do with pairs, triplets and the files of other trainers
    "columns such as anchor and positive, or sentence1, sentence2 and score, become records with: "
    "python -m data_prep fetch --importer pairs --from FILE --out data/own/fetch (FlagEmbedding's query, pos "
    "and neg: --importer flag_embedding), then "
    "python -m data_prep export --in data/own/fetch --out data/own/export"
)
_LARGEST_TEACHER_SCORE = 3.4e38


class Text(NamedTuple):
    """A text and the instruction that chooses its prompt ("" for none)."""

    instruction: str
    text: str


class Record(NamedTuple):
    """One query with its documents.

    Scores are gold ones, normalised to [0, 1], where the record is graded. Those of IR are a teacher's, of
    any range and as the file has them, NaN for null. Each list is empty where the file has none. A record of
    raw text has its text as the query, and no documents.
    """

    task: str
    query: Text
    positives: list[Text]
    negatives: list[Text]
    positive_scores: list[float]
    negative_scores: list[float]


class BadLine(NamedTuple):
    """A rejected line: where, why, and the line itself."""

    where: str
    problem: str
    line: str


class BadLines:
    """How many lines were bad, and the first of them: a wrong file of any size is told in constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[BadLine] = []

    def add(self, line: BadLine) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < MAX_REPORTED:
            self.first.append(line)

    def __add__(self, other: "BadLines") -> "BadLines":
        """Those of two files."""
        both = BadLines()
        both.count = self.count + other.count
        both.first = (self.first + other.first)[:MAX_REPORTED]
        return both

    def __str__(self) -> str:
        """One message: the first 20, then the count and the ways on."""
        lines = [f"{where}: {problem}" for where, problem, _ in self.first]
        if self.count > len(self.first):
            lines.append(f"... and {self.count - len(self.first)} more")
        count = f"{self.count} bad record{'s' if self.count > 1 else ''}"
        if self.count > 1 and all(problem == _NO_TASK for _, problem, _ in self.first):
            lines.append(OTHER_COLUMNS)
        return "\n".join([f"{count}; correct them, or set data.on_error=skip to go on without them:", *lines])


def parse_record(
    fields: dict[str, Any], score_range: tuple[float, float], unknown: Counter[str] | None = None
) -> Record:
    """One row's fields, as JSON gives them. Keys that no record of its task has are counted in `unknown`.

    Raises:
        Problem: why the row is no record.
    """
    task = fields.get("task_type")
    if not isinstance(task, str) or task not in KNOWN_TASKS:
        known = ", ".join(sorted(KNOWN_TASKS))
        raise Problem(f"task_type is {task!r}; known tasks: {known}" if task else _NO_TASK)
    if unknown is not None:
        unknown.update(fields.keys() - (RAW_KEYS if task in RAW_TASKS else KEYS))
    if task in RAW_TASKS:
        return Record(task, _raw_text(fields), [], [], [], [])
    if "query" not in fields:
        raise Problem("query is missing")
    query = _text(fields["query"], "query")
    positives = _texts(fields, "positives")
    if not positives:
        raise Problem("positives is missing or empty; a record needs at least one positive")
    negatives = _texts(fields, "negatives")
    has_scores = bool(fields.get("positive_scores") or fields.get("negative_scores"))
    graded = task in GRADED_TASKS or (task in MIXED_TASKS and has_scores)
    positive_scores = _scores(fields, "positive_scores", len(positives), score_range if graded else None)
    negative_scores = _scores(fields, "negative_scores", len(negatives), score_range if graded else None)
    if not graded:  # without their instruction: documents of IR get none (docs/method.md section 4)
        positives = [Text("", text) for _, text in positives]
        negatives = [Text("", text) for _, text in negatives]
    record = Record(task, query, positives, negatives, positive_scores, negative_scores)
    _check_consistent(record, graded=graded)
    return record


def read_fields(raw: bytes) -> dict[str, Any]:
    """The fields of one line of JSON.

    Raises:
        Problem: why the line is no JSON object.
    """
    try:
        fields = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=one_of_each)
    except UnicodeDecodeError:
        raise Problem("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise Problem(f"not JSON ({error.msg} at column {error.colno})") from None
    except Problem:
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise Problem(f"not a record ({error})") from None
    if not isinstance(fields, dict):
        raise Problem(f"a record must be a JSON object, not {_kind(fields)}")
    return fields


def _check_consistent(record: Record, *, graded: bool) -> None:
    """A text is not both positive and negative of one query, unless it is graded, and has one score.

    Legitimate are a document that is the query's own text (a pair of equal sentences, positives by dropout),
    and a text that stands twice on one side, also with a score in one place only.
    """
    sides = (
        ("positives", record.positives, record.positive_scores),
        ("negatives", record.negatives, record.negative_scores),
    )
    first: dict[Text, tuple[str, int, float]] = {}
    for side, texts, scores in sides:
        for i, (text, score) in enumerate(zip(texts, scores or repeat(math.nan))):  # noqa: B905  endless
            other, j, other_score = first.setdefault(text, (side, i, score))
            if not graded and other != side:
                raise Problem(f"{side}[{i}] is also {other}[{j}]: one text, both positive and negative")
            if abs(score - other_score) > 0:  # never so where one of them is NaN
                raise Problem(f"{side}[{i}] and {other}[{j}] are one text with two scores")


def _raw_text(fields: dict[str, Any]) -> Text:
    if "text" not in fields:
        raise Problem("text is missing")
    if not isinstance(fields["text"], str):
        raise Problem(f"text must be a string, not {_kind(fields['text'])}")
    if not any(map(_is_visible, fields["text"])):
        raise Problem("text is empty")
    return _text(fields["text"], "text")


def _texts(fields: dict[str, Any], key: str) -> list[Text]:
    values = fields.get(key)
    if values is None:
        return []
    if not isinstance(values, list):
        raise Problem(f"{key} must be a list of texts, not {_kind(values)}")
    return [_text(value, f"{key}[{i}]") for i, value in enumerate(values)]


def _text(value: Any, key: str) -> Text:  # noqa: ANN401  anything JSON can hold
    """A triple [task_instruction, instance_instruction, text], or a bare string."""
    triple = ["", "", value] if isinstance(value, str) else value
    if not isinstance(triple, list) or len(triple) != 3 or not all(isinstance(part, str) for part in triple):
        raise Problem(
            f"{key} must be [task_instruction, instance_instruction, text], three strings, not {_kind(value)}"
        )
    task_instruction, instance_instruction, text = triple
    if not any(_is_visible(character) for character in text):
        raise Problem(f"{key} has an empty text")
    try:
        "".join(triple).encode()
    except UnicodeEncodeError:
        raise Problem(f"{key} has half of a surrogate pair (\\ud800 to \\udfff), which is no text") from None
    return Text(task_instruction.strip(), (instance_instruction + text).strip())


def _scores(
    fields: dict[str, Any], key: str, count: int, score_range: tuple[float, float] | None
) -> list[float]:
    """One score a text, in [0, 1]; with `score_range` None (not graded) a teacher's, where there are any."""
    values = fields.get(key)
    if values is None or values == []:
        if score_range is not None and count:
            raise Problem(f"{key} is missing or empty; this task needs one score for each text")
        return []
    if not isinstance(values, list) or len(values) != count:
        raise Problem(f"{key} must be a list of {count} numbers, one for each text")
    return [_score(score, f"{key}[{i}]", score_range) for i, score in enumerate(values)]


def _score(score: Any, key: str, score_range: tuple[float, float] | None) -> float:  # noqa: ANN401  any JSON
    if score is None and score_range is None:
        return math.nan  # a teacher need not have seen every text
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if not is_number or not -math.inf < score < math.inf:
        raise Problem(f"{key} is {score!r}, not a finite number")
    if score_range is None:
        if abs(score) > _LARGEST_TEACHER_SCORE:
            raise Problem(f"{key} is {score!s:.60}, beyond single precision, in which it is trained on")
        return float(score)
    low, high = score_range
    if not low <= score <= high:
        raise Problem(
            f"{key} is {score}, outside the declared range {list(score_range)}; "
            "declare the source's own range with score_range"
        )
    return (score - low) / (high - low)


def _is_visible(character: str) -> bool:
    """Neither a space nor a control or format character (zero-width space, byte order mark)."""
    category = unicodedata.category(character)
    return category[0] != "Z" and category not in ("Cc", "Cf")


def _kind(value: Any) -> str:  # noqa: ANN401  anything JSON can hold
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    kind = names.get(type(value), "a number")
    return f"{kind} of {len(value)}" if isinstance(value, list) else kind
