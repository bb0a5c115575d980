"""A prompt file: what a recipe reads, draws, asks and makes. One YAML file each, to copy and change."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from codiemb.errors import UserError
from codiemb.near import near
from codiemb.raw_files.mapping import read_yaml
from data_prep.languages import KNOWN
from data_prep.synthesis.answer import Asked, Form

PROMPTS = Path(__file__).parents[1] / "prompts"
_STRICT = ConfigDict(extra="forbid")
_PLACE = re.compile(r"\{([a-z_][a-z0-9_.]*)\}")  # {"query": ...} is JSON, and none
ITEM = "item"  # {NAME.item}: a row's own among the texts that one answer gives several rows

READS = {
    "document": ("passage",),
    "query": ("query", "positive"),
    "documents": ("first", "second"),
    "nothing": (),
}
# by what is made: the fields that the last answer must have, with their kinds
MAKES = {
    "query": {"query": "text"},
    "paraphrases": {"paraphrases": "texts"},
    "hard_negatives": {"hard_negatives": "texts"},
    "graded_list": {"documents": "graded"},
    "graded_pairs": {"pairs": "graded"},
    "example": {"query": "text", "positive": "text"},
}
_READ_BY = {
    "query": ("document", "documents"),
    "paraphrases": ("query",),
    "hard_negatives": ("query",),
    "graded_list": ("query",),
    "graded_pairs": ("document", "query", "nothing"),
    "example": ("nothing",),
}


@checked(frozen=True, config=_STRICT)
class Choice:
    """What is drawn for each row: `take` of `of`, a line each."""

    of: list[str]
    take: int = 1


@checked(frozen=True, config=_STRICT)
class Question:
    """One request.

    Attributes:
        name: for {NAME.FIELD} in what is asked later.
        prompt: with placeholders in braces.
        answer: its fields.
        shared_by: so many rows share one answer, and each has its own of the texts in its one field.
    """

    name: str
    prompt: str
    answer: dict[str, Asked]
    shared_by: int = 0

    @property
    def form(self) -> Form:
        """What checks an answer."""
        return Form(self.answer)


@checked(frozen=True, config=_STRICT)
class Prompt:
    """A recipe.

    Attributes:
        about: a line that says what it does.
        reads: document; query (with a positive); documents (two that are alike); or nothing.
        makes: query, paraphrases, hard_negatives, graded_list, graded_pairs or example.
        ask: one request, or several, one after the other.
        language: code of what is written; "" where it is drawn or that of what was read.
        languages: code of each name of a language among the choices.
        choices: what is drawn, by name.
        system_message: "" for none.
        instruction: of the queries that are made; placeholders may stand in it.
        relevant_from: graded_list: the least grade of a right document.
    """

    about: str
    reads: Literal["document", "query", "documents", "nothing"]
    makes: Literal["query", "paraphrases", "hard_negatives", "graded_list", "graded_pairs", "example"]
    ask: list[Question]
    language: str = ""
    languages: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str] | Choice] = field(default_factory=dict)
    system_message: str = ""
    instruction: str = ""
    relevant_from: float = 4

    @property
    def is_new_source(self) -> bool:
        """Whether what it makes is a source of its own, and not added to what was read."""
        return self.makes in ("graded_pairs", "example")

    def choice(self, name: str) -> Choice:
        """What is drawn under a name."""
        found = self.choices[name]
        return found if isinstance(found, Choice) else Choice(found)


def names() -> list[str]:
    """Of the recipes that come with this repository."""
    return sorted({path.name.partition(".")[0] for path in PROMPTS.glob("*.yaml")})


def prompt_file(recipe: str, language: str) -> Path:
    """Of a recipe by its name, or by the path of its file.

    Raises:
        UserError: there is none.
    """
    own = recipe.endswith((".yaml", ".yml"))
    path = Path(recipe) if own else PROMPTS / f"{recipe}.{language}.yaml"
    if not recipe:
        raise UserError(f"recipe: give one: --recipe NAME; {near('', names())}")
    if not path.is_file():
        raise UserError(f"no recipe {recipe!r}; " + ("no such file" if own else near(recipe, names())))
    return path


def load_prompt(path: Path) -> Prompt:
    """A recipe.

    Raises:
        UserError: the file is wrong: a key, a placeholder that nothing fills, a field that is missing.
    """
    try:
        prompt = TypeAdapter(Prompt).validate_python(read_yaml(path))
    except ValidationError as error:
        told = (f"{path}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise UserError("\n".join(told)) from error
    for problem in _problems(prompt):
        raise UserError(f"{path}: {problem}")
    return prompt


def hash_of(path: Path) -> str:
    """Of a prompt file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def filled(text: str, values: Mapping[str, str]) -> str:
    """A prompt with its placeholders filled; braces in what fills them stay as they are."""
    return _PLACE.sub(lambda place: values[place[1]], text).strip()


def _problems(prompt: Prompt) -> Iterator[str]:
    if prompt.reads not in _READ_BY[prompt.makes]:
        yield f"makes: {prompt.makes} reads {' or '.join(_READ_BY[prompt.makes])}, not {prompt.reads}"
    if not prompt.ask:
        yield "ask: no request"
        return
    known = [*READS[prompt.reads], *prompt.choices]
    for question in prompt.ask:
        yield from _places(f"ask.{question.name}.prompt", question.prompt, known)
        if question.shared_by:
            yield from _shared(prompt, question)
            known.append(f"{question.name}.{ITEM}")
        known += [f"{question.name}.{name}" for name in question.answer]
    yield from _places("system_message", prompt.system_message, [])
    yield from _places("instruction", prompt.instruction, known)
    yield from _missing(prompt)
    yield from _languages(prompt)


def _shared(prompt: Prompt, question: Question) -> Iterator[str]:
    where = f"ask.{question.name}"
    if [asked.kind for asked in question.answer.values()] != ["texts"]:
        yield f"{where}: shared_by needs one field, of kind texts"
    if prompt.reads != "nothing":
        yield f"{where}: shared_by goes with reads: nothing; rows that were read share no answer"


def _missing(prompt: Prompt) -> Iterator[str]:
    last = prompt.ask[-1]
    needed = dict(MAKES[prompt.makes])
    if prompt.makes == "graded_pairs" and prompt.reads == "nothing":
        needed["sentence"] = "text"
    for name, kind in needed.items():
        if name not in last.answer or last.answer[name].kind != kind:
            yield f"ask.{last.name}.answer: {prompt.makes} needs a field {name} of kind {kind}"


def _languages(prompt: Prompt) -> Iterator[str]:
    codes = [prompt.language, *prompt.languages.values()]
    for question in prompt.ask:
        for name, asked in question.answer.items():
            where = f"ask.{question.name}.answer.{name}.language"
            if not asked.language.startswith("$"):
                codes.append(asked.language)
            elif asked.language[1:] not in prompt.choices:
                yield f"{where}: no choice {asked.language[1:]!r}; {near(asked.language[1:], prompt.choices)}"
            else:
                options = prompt.choice(asked.language[1:]).of
                if missing := [each for each in options if each not in prompt.languages]:
                    yield f"{where}: languages has no code of {missing[0]!r}"
    yield from (f"no language {code!r}; two letters (en, zh)" for code in codes if code and code not in KNOWN)


def _places(where: str, text: str, known: list[str]) -> Iterator[str]:
    for name in _PLACE.findall(text):
        if name not in known:
            yield f"{where}: nothing fills {{{name}}}; {near(name, known) or 'no placeholder is known here'}"
