"""Scores an encoder on mteb tasks, built-in or CMTEB, and shows it beside BM25 and published results.

A name is imported when it is first asked for: what reads results needs neither torch nor mteb.
"""

from typing import TYPE_CHECKING

from codiemb.on_demand import on_demand

if TYPE_CHECKING:
    from codiemb.evaluation.benchmark import cmteb_tasks
    from codiemb.evaluation.bm25 import bm25_score
    from codiemb.evaluation.builtin import builtin_tasks
    from codiemb.evaluation.cmteb import CmtebTable, cmteb_table
    from codiemb.evaluation.evaluator import Evaluator, evaluate
    from codiemb.evaluation.instructions import Instructions, check_instructions
    from codiemb.evaluation.mteb_encoder import MtebEncoder
    from codiemb.evaluation.mteb_names import mteb_prompts
    from codiemb.evaluation.nano import nano_tasks
    from codiemb.evaluation.present import (
        comparison_sheet,
        missing_sheet,
        prompts_sheet,
        results_sheet,
        save,
        setup_sheet,
    )
    from codiemb.evaluation.results import Evaluation, MissingDataset, Setup, TaskScore

__all__ = [
    "CmtebTable",
    "Evaluation",
    "Evaluator",
    "Instructions",
    "MissingDataset",
    "MtebEncoder",
    "Setup",
    "TaskScore",
    "bm25_score",
    "builtin_tasks",
    "check_instructions",
    "cmteb_table",
    "cmteb_tasks",
    "comparison_sheet",
    "evaluate",
    "missing_sheet",
    "mteb_prompts",
    "nano_tasks",
    "prompts_sheet",
    "results_sheet",
    "save",
    "setup_sheet",
]
__getattr__ = on_demand(
    __name__,
    {
        "bm25": ("bm25_score",),
        "builtin": ("builtin_tasks",),
        "benchmark": ("cmteb_tasks",),
        "cmteb": ("CmtebTable", "cmteb_table"),
        "evaluator": ("Evaluator", "evaluate"),
        "instructions": ("Instructions", "check_instructions"),
        "mteb_encoder": ("MtebEncoder",),
        "mteb_names": ("mteb_prompts",),
        "nano": ("nano_tasks",),
        "present": (
            "comparison_sheet",
            "missing_sheet",
            "prompts_sheet",
            "results_sheet",
            "save",
            "setup_sheet",
        ),
        "results": ("Evaluation", "MissingDataset", "Setup", "TaskScore"),
    },
)
