"""From files to batches: records, sources, the plan and the collator.

A name is imported when it is first asked for: the processes that convert files, and steps of data_prep, read
records and need neither torch nor transformers (4 CPU seconds and 0.4 GB each).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codiemb.data.batches import PlannedBatches
    from codiemb.data.collator import Collator, TaskSpec, content_hash
    from codiemb.data.conversion import convert
    from codiemb.data.plan import Alternate, Plan, PlannedSource, Proportional, Schedule, SizePower, Weights
    from codiemb.data.records import Record, Text
    from codiemb.data.scan import read_records
    from codiemb.data.source import Source, open_sources
    from codiemb.data.source_file import SourceFile

__all__ = [
    "Alternate",
    "Collator",
    "Plan",
    "PlannedBatches",
    "PlannedSource",
    "Proportional",
    "Record",
    "Schedule",
    "SizePower",
    "Source",
    "SourceFile",
    "TaskSpec",
    "Text",
    "Weights",
    "content_hash",
    "convert",
    "open_sources",
    "read_records",
]
_MODULES = {
    "batches": ("PlannedBatches",),
    "collator": ("Collator", "TaskSpec", "content_hash"),
    "conversion": ("convert",),
    "plan": ("Alternate", "Plan", "PlannedSource", "Proportional", "Schedule", "SizePower", "Weights"),
    "records": ("Record", "Text"),
    "scan": ("read_records",),
    "source": ("Source", "open_sources"),
    "source_file": ("SourceFile",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401  whatever the name stands for
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
