"""From files to batches: records, sources, the plan and the collator."""

from codiemb.data.batches import PlannedBatches
from codiemb.data.collator import Collator, TaskSpec, content_hash
from codiemb.data.conversion import convert
from codiemb.data.plan import Alternate, Plan, PlannedSource, Proportional, Schedule, SizePower, Weights
from codiemb.data.records import Record, Text
from codiemb.data.scan import read_records
from codiemb.data.source import Source, SourceFile, open_sources

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
