"""A recipe: where a data set lies, what its columns mean, and which page says so. One YAML file each."""

import re
from collections.abc import Sequence
from dataclasses import field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from codiemb.errors import UserError
from codiemb.raw_files.mapping import read_yaml

RECIPES = Path(__file__).parents[1] / "recipes"
UNKNOWN = "unknown"
_STRICT = ConfigDict(extra="forbid", str_strip_whitespace=True)


@checked(frozen=True, config=_STRICT)
class Files:
    """One kind of file of a data set.

    Attributes:
        path: a pattern, or several, relative to the repository; `*` also matches a slash, as on the hub.
        columns: ours -> theirs; theirs may end in `*` where one of ours lies in several (negative_1, ...).
        header: the fields of a table whose first row is data already.
        kind: jsonl, json, csv, tsv, words (split at white space) or parquet, where the name does not tell.
        pieces: whether the files are one file that was cut into pieces, at any byte.
    """

    path: str | list[str]
    columns: dict[str, str] = field(default_factory=dict)
    header: list[str] = field(default_factory=list)
    kind: Literal["", "jsonl", "json", "csv", "tsv", "words", "parquet"] = ""
    pieces: bool = False

    @property
    def patterns(self) -> list[str]:
        """All patterns."""
        return [self.path] if isinstance(self.path, str) else self.path


@checked(frozen=True, config=_STRICT)
class Recipe:
    """What `fetch` needs to know of a data set.

    Attributes:
        name: of the source that it becomes; the file's name.
        importer: a module of `data_prep.fetch.importers`.
        files: by what they hold: `records`, or `corpus`, `queries`, `qrels`.
        task: ir, or sts for graded pairs.
        repository: a data set of the Hugging Face hub (OWNER/NAME), a GitHub repository or an archive (https://...);
            "" for files of one's own, which `--from` names.
        revision: a commit, or a branch where no page names a commit.
        unpack: archives among the files of the repository that hold the data.
        instruction: of every query (of both texts, for sts) that has none of its own.
        query_pattern: of queries that carry their instruction, with groups `instruction` and `text` (pairs).
        score_range: lowest and highest score of an sts set; grades are scores mapped to [0, 1].
        labels: what a label stands for: a grade (pairs), or the text of the class (labelled).
        language: zh, en, ... or mul.
        licence: as its card states it, or `unknown`.
        stage: weak_pairs (aligning) or finetune.
        scorer: who gave the scores that come with the pairs.
        sources: of each fact: which page, read when.
    """

    name: str
    importer: str
    files: dict[str, Files]
    task: Literal["ir", "sts"]
    repository: str = ""
    revision: str = "main"
    unpack: list[str] = field(default_factory=list)
    instruction: str = ""
    query_pattern: str = ""
    score_range: tuple[float, float] = (0.0, 1.0)
    labels: dict[str, float | str] = field(default_factory=dict)
    language: str = "mul"
    licence: str = UNKNOWN
    stage: Literal["weak_pairs", "finetune"] = "finetune"
    scorer: str = "given"
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (
            self.query_pattern
            and not {"instruction", "text"} <= re.compile(self.query_pattern).groupindex.keys()
        ):
            raise ValueError("query_pattern: needs the groups (?P<instruction>...) and (?P<text>...)")
        low, high = self.score_range
        if not low < high:
            raise ValueError(f"score_range: {low} is not below {high}")
        if self.repository and not re.fullmatch(r"https://\S+|[\w.-]+/[\w.-]+", self.repository):
            raise ValueError("repository: OWNER/NAME of the hub, or an https address")

    @property
    def patterns(self) -> list[str]:
        """Of all files."""
        return [pattern for files in self.files.values() for pattern in files.patterns]


def fitting(present: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that patterns fit, in the patterns' order; where none does, in any folder above."""
    found: dict[str, None] = {}
    for pattern in patterns:
        names = [name for name in present if fnmatchcase(name, pattern)]
        found |= dict.fromkeys(names or [name for name in present if fnmatchcase(name, f"*/{pattern}")])
    return list(found)


def refuse_none(where: str, pattern: str, present: Sequence[str]) -> UserError:
    """That no file fits a pattern, and which there are."""
    some = ", ".join(present[:10]) + (f" and {len(present) - 10} more" if present[10:] else "")
    there = f"there are {some}" if present else "there is no file"
    return UserError(
        f"{where}: no file fits {pattern!r}; {there}; correct `files` of the recipe, or fetch again"
    )


def names() -> list[str]:
    """Of the recipes that come with this repository."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str) -> Recipe:
    """A recipe by its name or by the path of its file.

    Raises:
        UserError: there is none (the nearest names are told), or its file is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        near = get_close_matches(name, names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names())}"
        raise UserError(f"no recipe {name!r}; {hint}")
    return parse_recipe(path.stem, read_yaml(path), str(path))


def parse_recipe(name: str, values: dict[str, Any], where: str) -> Recipe:
    """A recipe from plain values.

    Raises:
        UserError: unknown keys (with the nearest), missing ones, wrong types; all of them.
    """
    values = {"name": name, **values}
    if isinstance(labels := values.get("labels"), dict):
        values["labels"] = {str(label): meaning for label, meaning in labels.items()}
    try:
        return TypeAdapter(Recipe).validate_python(values)
    except ValidationError as error:
        raise UserError("\n".join(_told(where, dict(each)) for each in error.errors())) from error


def _told(where: str, error: dict[str, Any]) -> str:
    *inside, key = [str(part) for part in error["loc"]] or [""]
    place = ".".join([*inside, key]).strip(".")
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = Files.__dataclass_fields__ if inside else Recipe.__dataclass_fields__
        near = get_close_matches(key, known, n=1)
        return f"{where}: unknown key {place}; " + (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        )
    told = error["msg"].removeprefix("Value error, ")
    return f"{where}: {place}: {told}" if place else f"{where}: {told}"
