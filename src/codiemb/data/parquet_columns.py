"""The columns of a Parquet training file: which there must be, of which types, and values as in JSON."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from codiemb.data.records import OTHER_COLUMNS
from codiemb.errors import UserError

_PARTS = ("task_instruction", "instance_instruction", "text")
_TEXT = f"a string, a list of three strings, or a struct of {', '.join(_PARTS)}"
_KINDS = {  # of a column, and what it must be
    "task_type": "a string",
    "text": "a string",
    "query": _TEXT,
    "positives": f"a list of texts, each {_TEXT}",
    "negatives": f"a list of texts, each {_TEXT}",
    "positive_scores": "a list of numbers",
    "negative_scores": "a list of numbers",
}
_EXPECTED = (
    "a training file has the columns task_type, query and positives, and may have negatives, positive_scores "
    f"and negative_scores (one of raw texts: task_type and text). {OTHER_COLUMNS}"
)


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Refuse a file without the columns of a record.

    Raises:
        UserError: one is missing, stands twice, or is of another type; with the columns that there are.
    """
    if "task_type" not in schema.names or not ({"query", "text"} & set(schema.names)):
        missing = "task_type" if "task_type" not in schema.names else "query"
        raise UserError(f"{path}: no column {missing!r}; it has {_listed(schema)}. {_EXPECTED}")
    if "query" in schema.names and "positives" not in schema.names:
        raise UserError(f"{path}: no column 'positives'; it has {_listed(schema)}. {_EXPECTED}")
    name, count = Counter(schema.names).most_common(1)[0]
    if count > 1:
        raise UserError(f"{path}: the column {name!r} stands {count} times; write it once")
    for name, kind in _KINDS.items():
        if name in schema.names and not _fits(name, schema.field(name).type):
            raise UserError(
                f"{path}: the column {name!r} is of type {schema.field(name).type}; it must be {kind}"
            )


def as_json(value: Any) -> Any:  # noqa: ANN401  anything a column can hold
    """A value as a line of JSON would give it: a struct is the list of its parts, "" for one that is null."""
    if isinstance(value, dict):
        return [value.get(part) or "" for part in _PARTS]
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value


def _listed(schema: pa.Schema) -> str:
    names = schema.names[:20]
    return ", ".join(names) + (f" and {len(schema.names) - 20} more" if len(schema.names) > 20 else "")


def _fits(name: str, kind: pa.DataType) -> bool:
    if name in ("task_type", "text"):
        return _is_string(kind)
    if name == "query":
        return _is_text(kind)
    if pa.types.is_null(kind):  # no row has one
        return True
    if not _is_list(kind):
        return False
    return _is_number(kind.value_type) if name.endswith("_scores") else _is_text(kind.value_type)


def _is_text(kind: pa.DataType) -> bool:
    if _is_list(kind):
        return _is_string(kind.value_type)
    if pa.types.is_struct(kind):
        fields = {kind.field(k).name: kind.field(k).type for k in range(kind.num_fields)}
        return "text" in fields and fields.keys() <= set(_PARTS) and all(map(_is_string, fields.values()))
    return _is_string(kind)


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null))


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in lists)


def _is_number(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_null))
