"""The score of every query, pair or text: a file a task, beside results.json, for paired comparisons."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codiemb.atomic import write_text
from codiemb.errors import UserError
from codiemb.json_files import read_json

PER_QUERY = "per_query"  # the folder
MEAN, SPEARMAN, PRECISION, ACCURACY = "mean", "spearman", "average precision", "best accuracy"


@dataclass(frozen=True)
class Group:
    """One split of one subset; mteb's main score is the mean over them.

    `ids` names the queries; pairs and texts are told by their order and their gold values.
    """

    split: str
    subset: str
    ids: list[str]
    gold: list[Any]
    values: dict[str, list[float]]  # more is better; by similarity function, or one "score"


@dataclass(frozen=True)
class PerQuery:
    """What a task's main score is computed from."""

    task: str
    metric: str
    statistic: str  # MEAN of the values, or SPEARMAN, PRECISION or ACCURACY of values against gold
    unit: str  # query, pair or text
    score: float  # mteb's main score, a fraction
    revision: str  # of the dataset
    groups: list[Group] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write FOLDER/TASK.json."""
        write_text(folder / f"{self.task}.json", json.dumps(asdict(self), ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path, task: str) -> "PerQuery | None":
        """What `save` wrote; None where it wrote nothing.

        Raises:
            UserError: the file is damaged.
        """
        path = folder / f"{task}.json"
        record = read_json(path, {}, "evaluate again")
        if not record:
            return None
        try:
            return cls(**{**record, "groups": [Group(**group) for group in record["groups"]]})
        except (TypeError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}): evaluate again") from error
