"""What an evaluation yields: one record per task, with everything needed to tell why two scores differ."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from codiemb.errors import UserError
from codiemb.result_folder import RESULTS_FILE

_COMPUTE = ("codiemb", "torch", "transformers", "tokenizers", "mteb")  # the packages that a score depends on


@dataclass(frozen=True)
class TaskScore:
    """The score of one task. `score`, `bm25` and `metrics` are fractions, as mteb gives them."""

    task: str
    type: str
    metric: str  # mteb's main_score
    score: float
    seconds: float  # encoding and scoring, without loading
    num_texts: int
    prompts: dict[
        str, str
    ]  # side -> the instruction its texts got; sides are "query" and "document", or "text"
    splits: tuple[str, ...]
    revision: str  # of the dataset
    bm25: float | None = None  # same metric
    metrics: dict[str, float] = field(default_factory=dict)  # mteb's other numbers
    # side -> the exact string before its texts; None where the encoder does not say, no side in old files
    prefix: dict[str, str | None] = field(default_factory=dict)
    num_cut: int | None = None  # texts longer than an encoder's limit in characters; None where it has none

    @property
    def metric_name(self) -> str:
        """As papers print it: ndcg@10."""
        return self.metric.replace("_at_", "@")


@dataclass(frozen=True)
class MissingDataset:
    """A task that was left out because its dataset cannot be had."""

    task: str
    dataset: str
    reason: str  # continues a sentence that starts with the dataset


@dataclass(frozen=True)
class Setup:
    """What all scores of a run depend on beside the data. Empty in files of older versions.

    Attributes:
        settings: what the encoder says of itself (Encoder.settings): `weights` (a hash of their contents),
            `dtype`, `architecture`, `tokenizer`, `pooling`, `attention`, `packed`, `pool_prompt`,
            `prompt_apart`, `max_tokens`, `device`; empty for an encoder that does not say.
        versions: of the packages that compute.
        seed: of the run: random weights depend on it. mteb's own sampling has seeds of its own.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seed: int | None = None

    @classmethod
    def now(cls, settings: Mapping[str, Any], seed: int | None) -> "Setup":
        """With the versions that are installed."""
        return cls(dict(settings), {name: version(name) for name in _COMPUTE}, seed)


@dataclass(frozen=True)
class Evaluation:
    """All tasks of one run, in the order asked for."""

    model: str
    model_revision: str
    mteb_version: str
    results: tuple[TaskScore, ...]
    missing: tuple[MissingDataset, ...] = ()
    setup: Setup = field(default_factory=Setup)
    pending: tuple[str, ...] = ()  # tasks that are still to be run: the file of a run that was stopped

    @property
    def scores(self) -> dict[str, float]:
        """{task: main score}, what `cmteb_table` takes."""
        return {result.task: result.score for result in self.results}

    def to_json(self) -> str:
        """Stable, readable JSON; `Evaluation.from_json` reads it back."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = RESULTS_FILE) -> "Evaluation":
        """Read back what `to_json` wrote, also of an older version.

        Raises:
            UserError: it is something else, or damaged; names `source`.
        """
        try:
            record = json.loads(text)
            results = [_made(TaskScore, row, "splits") for row in record.pop("results")]
            missing = [_made(MissingDataset, row) for row in record.pop("missing")]
            setup = _made(Setup, record.pop("setup", {}))
            record |= {"results": results, "missing": missing, "setup": setup}
            return _made(cls, {"pending": [], **record}, "results", "missing", "pending")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{source} holds no results that this version can read ({error}): remove it, evaluate again"
            ) from error

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read results.json, or the folder that holds it.

        Raises:
            UserError: there is none, it is damaged, or another file.
        """
        path = path / RESULTS_FILE if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"{path} is missing; run_eval.py writes it into its output folder")
        try:
            text = path.read_text(encoding="utf-8")
        except ValueError as error:
            raise UserError(f"{path} is no text ({error}): remove it, evaluate again") from error
        return cls.from_json(text, str(path))


def _made(kind: Any, record: Mapping[str, Any], *tuples: str) -> Any:  # noqa: ANN401  one of the dataclasses
    """A record as its dataclass; JSON has lists for tuples."""
    if unknown := record.keys() - {entry.name for entry in fields(kind)}:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    return kind(**{**record, **{name: tuple(record[name]) for name in tuples}})
