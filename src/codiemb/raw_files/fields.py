"""One row of a raw file, asked by our names; a value of another type is a problem that names the column."""

import math
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from codiemb.raw_files.problems import Problem

_KINDS = {str: "text", bool: "true or false", dict: "an object", list: "a list", type(None): "null"}


class Fields:
    """A row.

    Attributes:
        origin: the raw file, or a place in it, as messages name it.
    """

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, str], origin: str) -> None:
        self.row = row
        self.origin = origin
        self._columns = columns

    def column(self, name: str) -> str:
        """Theirs of a name of ours; of several usual ones (`query|anchor`) that which the row has."""
        usual = self._columns.get(name, name).split("|")
        return next((column for column in usual if "*" in column or column in self.row), usual[0])

    def has(self, name: str) -> bool:
        """Whether the row has a value there that is not null."""
        return self.row.get(self.column(name)) is not None

    def value(self, name: str) -> Any:  # noqa: ANN401  whatever the file holds
        """What stands there, null included.

        Raises:
            Problem: there is no such column; those present are listed.
        """
        column = self.column(name)
        if column not in self.row:
            raise Problem(
                f"no column {column!r}; it has {', '.join(self.row)}; say which one holds {name}: columns"
            )
        return self.row[column]

    def text(self, name: str) -> str:
        """A text.

        Raises:
            Problem: there is no such column, or it holds something else.
        """
        return _text(self.value(name), self.column(name))

    def maybe(self, name: str) -> str:
        """A text, "" where there is none."""
        return self.text(name) if self.has(name) else ""

    def id(self, name: str) -> str:
        """An id: a text, or a whole number.

        Raises:
            Problem: it is something else, or empty.
        """
        if not (found := _id(self.value(name), self.column(name))):
            raise Problem(f"{self.column(name)} is empty; every row needs an id")
        return found

    def ids(self, name: str) -> list[str]:
        """The ids of a list, of one id, or of several columns; nulls and empty ones are passed over.

        Raises:
            Problem: something else is among them.
        """
        column = self.column(name)
        found = (_id(value, column) for value in self._several(column) if value is not None)
        return [each for each in found if each]

    def texts(self, name: str) -> list[str]:
        """The texts of a list, of one text, or of several columns; nulls and empty ones are passed over.

        Raises:
            Problem: something else is among them.
        """
        column = self.column(name)
        return [_text(value, column) for value in self._several(column) if value not in (None, "")]

    def _several(self, column: str) -> list[Any]:
        if "*" in column:
            return [self.row[key] for key in sorted(filter(matcher(column), self.row), key=_by_number)]
        return _as_list(self.row.get(column))

    def objects(self, name: str) -> Sequence[Mapping[str, Any]]:
        """A list of objects; none where there is null or no such column.

        Raises:
            Problem: it is something else.
        """
        values = _as_list(self.row.get(self.column(name)))
        for value in values:
            if not isinstance(value, dict):
                raise Problem(f"{self.column(name)} must hold objects, not {kind(value)}")
        return values

    def number(self, name: str) -> float:
        """A finite number, or a text that is one.

        Raises:
            Problem: it is something else.
        """
        return _number(self.value(name), self.column(name))

    def numbers(self, name: str, count: int) -> list[float | None]:
        """A score for each of `count` texts; None for each where there are none.

        Raises:
            Problem: they are not as many, or not numbers.
        """
        if not self.has(name):
            return [None] * count
        column = self.column(name)
        values = _as_list(self.row[column])
        if len(values) != count:
            raise Problem(f"{column} has {len(values)} scores for {count} texts")
        return [None if value is None else _number(value, column) for value in values]


def matcher(pattern: str) -> Any:  # noqa: ANN401  a predicate on names
    """Whether a column's name fits a pattern."""
    return lambda name: fnmatchcase(name, pattern)


def kind(value: Any) -> str:  # noqa: ANN401
    """What a value is, in a word."""
    return _KINDS.get(type(value), "a number")


def _by_number(name: str) -> tuple[int, str]:
    """negative_2 before negative_10."""
    found = re.search(r"\d+$", name)
    return (int(found.group()) if found else -1, name)


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _id(value: Any, column: str) -> str:  # noqa: ANN401
    return _text(str(value) if type(value) is int else value, column).strip()


def _text(value: Any, column: str) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise Problem(f"{column} must be text, not {kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Problem(
                f"{column} has half of a surrogate pair (\\ud800 to \\udfff), which is no text"
            ) from None
    return value


def _number(value: Any, column: str) -> float:  # noqa: ANN401
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Problem(f"{column} must be a finite number, not {value!r:.40}")
    return number
