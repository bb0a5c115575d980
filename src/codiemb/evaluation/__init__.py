"""Scores an encoder on mteb tasks, built-in or CMTEB, and shows it beside BM25 and published results."""

from codiemb.evaluation.bm25 import bm25_score
from codiemb.evaluation.builtin_tasks import builtin_tasks
from codiemb.evaluation.cmteb import CmtebTable, cmteb_table, cmteb_tasks
from codiemb.evaluation.evaluate import Evaluator, evaluate
from codiemb.evaluation.instructions import Instructions, check_instructions
from codiemb.evaluation.mteb_encoder import MtebEncoder
from codiemb.evaluation.mteb_names import mteb_prompts
from codiemb.evaluation.nano_tasks import nano_tasks
from codiemb.evaluation.present import (
    comparison_sheet,
    missing_sheet,
    prompts_sheet,
    results_sheet,
    save,
    setup_sheet,
)
from codiemb.evaluation.protocol import Stated, TextEncoder
from codiemb.evaluation.results import Evaluation, MissingDataset, Setup, TaskScore
from codiemb.tables import Sheet

__all__ = [
    "CmtebTable",
    "Evaluation",
    "Evaluator",
    "Instructions",
    "MissingDataset",
    "MtebEncoder",
    "Setup",
    "Sheet",
    "Stated",
    "TaskScore",
    "TextEncoder",
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
