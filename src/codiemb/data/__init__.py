"""From files to batches: records, sources, the plan and the collator.

A name is imported when it is first asked for: the processes that convert files, and steps of data_prep, read
records and need neither torch nor transformers (4 CPU seconds and 0.4 GB each).
"""

from typing import TYPE_CHECKING

from codiemb.on_demand import on_demand

if TYPE_CHECKING:
    from codiemb.data.batches import PlannedBatches
    from codiemb.data.collator import Collator, content_hash
    from codiemb.data.conversion import convert
    from codiemb.data.plan import Alternate, Plan, PlannedSource, Proportional, Schedule, SizePower, Weights
    from codiemb.data.records import Record, Text
    from codiemb.data.scan import read_records
    from codiemb.data.source import Source, open_sources
    from codiemb.data.source_file import SourceFile
    from codiemb.data.task_spec import TaskSpec

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
__getattr__ = on_demand(
    __name__,
    {
        "batches": ("PlannedBatches",),
        "collator": ("Collator", "content_hash"),
        "conversion": ("convert",),
        "plan": ("Alternate", "Plan", "PlannedSource", "Proportional", "Schedule", "SizePower", "Weights"),
        "records": ("Record", "Text"),
        "scan": ("read_records",),
        "source": ("Source", "open_sources"),
        "source_file": ("SourceFile",),
        "task_spec": ("TaskSpec",),
    },
)
