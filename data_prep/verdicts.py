"""The verdict of a step on the rows of a table: who drops it, and why."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def mark(table: pa.Table, by: str, reasons: Sequence[str | None]) -> pa.Table:
    """Give rows that are still kept a verdict, where there is a reason."""
    free = pc.is_null(table["dropped_by"])
    reason = pa.array(reasons, pa.string())
    drop = pc.and_(free, pc.is_valid(reason))
    for name, value in (("dropped_by", pa.scalar(by)), ("reason", reason)):
        table = table.set_column(
            table.column_names.index(name), name, pc.if_else(drop, value, table[name].combine_chunks())
        )
    return table
