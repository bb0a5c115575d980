"""The 31 tasks of the CMTEB table, and the splits that all its rows are scored on."""

from collections.abc import Mapping
from functools import cache

import mteb
from mteb.abstasks import AbsTask

from codiemb.cmteb_names import CMTEB
from codiemb.evaluation.isolation import preserve_random_state

BENCHMARK = "MTEB(cmn, v1)"
# mteb's task types in the order of the published tables, with their column headers
CATEGORIES = {
    "Classification": "Class.",
    "Clustering": "Clust.",
    "PairClassification": "PairCl.",
    "Reranking": "Rerank.",
    "Retrieval": "Retr.",
    "STS": "STS",
}
# mteb 2.26 scores it on test, too: files of mteb 1.2 have no such scores, and the published rows are without
SPLITS = {"MultilingualSentiment": ["validation"]}
_BENCHMARKS_OWN = {name: ["test"] for name in ("ATEC", "BQ", "STSB")}  # narrower than the tasks' splits
CONVENTION = "MultilingualSentiment: on validation only, in all rows, as published; mteb 2.26 adds test."


def cmteb_tasks() -> list[AbsTask]:
    """The 31 mteb tasks of the benchmark, on the splits of the published table (`SPLITS`)."""
    with preserve_random_state():  # building an mteb task seeds the global generators
        splits = SPLITS | _BENCHMARKS_OWN
        return [mteb.get_task(name, eval_splits=splits.get(name)) for name in CMTEB]


@cache
def cmteb_by_name() -> Mapping[str, AbsTask]:
    """The 31 tasks, for who only reads their metadata."""
    return {task.metadata.name: task for task in cmteb_tasks()}


def cmteb_types() -> Mapping[str, str]:
    """{task name: task type} of the 31 tasks, in the benchmark's order."""
    return {name: task.metadata.type for name, task in cmteb_by_name().items()}
