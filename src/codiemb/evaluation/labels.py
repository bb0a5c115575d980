"""Has mteb read a classification task's labels once, where it reads them again for every metric."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mteb.abstasks import AbsTask, AbsTaskClassification


@contextmanager
def labels_read_once(task: AbsTask) -> Iterator[None]:
    """Hand the scoring of each experiment an array of labels, and not a column of `datasets`.

    scikit-learn converts labels about 150 times an experiment, and a lazy column is read row by row each
    time: half of the whole time of FramesClassification, of 600 texts (experiments/LOG.md).
    """
    if not isinstance(task, AbsTaskClassification) or not _scores_as_mteb(type(task)):
        yield
        return
    score: Any = task._calculate_scores

    def with_array(labels: Sequence[Any], predicted: np.ndarray) -> Any:  # noqa: ANN401  mteb's metrics
        return score(np.asarray(labels), predicted)

    task._calculate_scores = with_array  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del task._calculate_scores


def _scores_as_mteb(kind: type[AbsTaskClassification]) -> bool:
    """Whether it has one label a text: several labels, and numbers, are scored by functions of their own."""
    return kind._calculate_scores is AbsTaskClassification._calculate_scores
