"""What an evaluation yields: one record per task, with everything needed to tell why two scores differ."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
class Evaluation:
    """All tasks of one run, in the order asked for."""

    model: str
    model_revision: str
    mteb_version: str
    results: tuple[TaskScore, ...]
    missing: tuple[MissingDataset, ...] = ()

    @property
    def scores(self) -> dict[str, float]:
        """{task: main score}, what `cmteb_table` takes."""
        return {result.task: result.score for result in self.results}

    def to_json(self) -> str:
        """Stable, readable JSON; `Evaluation.from_json` reads it back."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """Read back what `to_json` wrote."""
        record: dict[str, Any] = json.loads(text)
        results = (TaskScore(**{**row, "splits": tuple(row["splits"])}) for row in record.pop("results"))
        missing = (MissingDataset(**row) for row in record.pop("missing"))
        return cls(**record, results=tuple(results), missing=tuple(missing))

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read results.json, or the folder that holds it."""
        path = path / "results.json" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; run_eval.py writes it into its output folder")
        return cls.from_json(path.read_text(encoding="utf-8"))
