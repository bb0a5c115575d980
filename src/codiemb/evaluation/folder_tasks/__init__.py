"""A user's own folder as mteb tasks: `run_eval.py task=folder task.data=DIR`."""

from codiemb.evaluation.folder_tasks.open import folder_tasks, with_own_instructions
from codiemb.evaluation.folder_tasks.tasks import LocalTask

__all__ = ["LocalTask", "folder_tasks", "with_own_instructions"]
