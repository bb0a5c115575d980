"""Is an answer what was asked for: its JSON is found and checked here, whatever the server promises."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model
from pydantic.dataclasses import dataclass as checked

from data_prep.languages import agrees, language_of

_STRICT = ConfigDict(extra="forbid", str_strip_whitespace=True)
_THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
_STARTS = 20  # braces that are tried: each costs a look at what follows
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


class Rejected(Exception):
    """Why an answer is of no use; what stands before the colon is counted."""


class Graded(BaseModel):
    """A text and how near it is to what it was written for."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    grade: float


@checked(frozen=True, config=_STRICT)
class Asked:
    """What a field of an answer must be.

    Attributes:
        kind: text; texts (a list); one_of; graded (a list of texts with a grade each).
        at_least: characters of a text, or texts of a list.
        at_most: the same.
        of: what a one_of may be.
        lowest: grade of a graded text.
        highest: the same.
        language: that the text is in: a code (en), or $NAME of a choice; "" asks for none.
        optional: whether it may be missing.
    """

    kind: Literal["text", "texts", "one_of", "graded"] = "text"
    at_least: int = 1
    at_most: int = 10_000
    of: list[str] = field(default_factory=list)
    lowest: float = 0
    highest: float = 5
    language: str = ""
    optional: bool = False

    @property
    def type(self) -> Any:  # noqa: ANN401  an annotation for pydantic
        """As pydantic checks it."""
        text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
        if self.kind == "text":
            limits = StringConstraints(
                strip_whitespace=True, min_length=self.at_least, max_length=self.at_most
            )
            return Annotated[str, limits]
        if self.kind == "one_of":
            return Literal[tuple(self.of)]
        item: Any = text
        if self.kind == "graded":
            grade = Annotated[float, Field(ge=self.lowest, le=self.highest)]
            item = create_model("Graded", __base__=Graded, grade=(grade, ...))
        return Annotated[list[item], Field(min_length=self.at_least, max_length=self.at_most)]


class Form:
    """The fields of an answer.

    Args:
        fields: by name.
    """

    def __init__(self, fields: Mapping[str, Asked]) -> None:
        self.fields = fields

    @cached_property
    def _model(self) -> type[BaseModel]:
        types: dict[str, Any] = {
            name: (asked.type | None, None) if asked.optional else (asked.type, ...)
            for name, asked in self.fields.items()
        }
        return create_model("Answer", **types)

    def schema(self) -> dict[str, Any]:
        """As JSON schema."""
        return self._model.model_json_schema()

    def read(self, text: str, languages: Mapping[str, str]) -> dict[str, Any]:
        """The fields of an answer; those that it has besides are left out.

        Args:
            text: of the model.
            languages: code of the language that each field with one must be in.

        Raises:
            Rejected: it has no JSON, or not this.
        """
        try:
            found = self._model.model_validate(_json(text))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise Rejected(f"schema: {place}: {first['msg']}") from error
        values: dict[str, Any] = {name: getattr(found, name) for name in self.fields}
        for name, code in languages.items():
            for each in _texts(values[name]):
                if not agrees(code, language_of(each)):
                    raise Rejected(f"language: {name} is not in {code}")
        return values


def _json(text: str) -> dict[str, Any]:
    """The object in an answer: alone, in a fence, or with words around it; thoughts do not count."""
    text = _THOUGHT.sub("", text)
    if fenced := _FENCED.search(text):
        text = fenced[1]
    decoder, problem = json.JSONDecoder(strict=False), "not one {"
    for start in islice(re.finditer(r"\{", text), _STARTS):
        try:
            return dict(decoder.raw_decode(text, start.start())[0])
        except (ValueError, RecursionError) as error:
            problem = str(error) if problem == "not one {" else problem
    raise Rejected(f"no JSON: {problem}")


def _texts(value: Any) -> Sequence[str]:  # noqa: ANN401  a field
    if isinstance(value, str):
        return [value]
    return [getattr(each, "text", each) for each in value or []]
