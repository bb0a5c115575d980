"""The tasks of the CMTEB table, by mteb, on the splits that all rows of the table are scored on."""

import mteb
from mteb.abstasks import AbsTask

from codiemb.cmteb_names import CMTEB_TASKS
from codiemb.evaluation.isolation import preserve_random_state


def cmteb_tasks() -> list[AbsTask]:
    """The 31 mteb tasks of the benchmark, on the splits of the published table."""
    with preserve_random_state():  # building an mteb task seeds the global generators
        return [mteb.get_task(name, eval_splits=list(about.splits)) for name, about in CMTEB_TASKS.items()]
