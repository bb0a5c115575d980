"""task.yaml: what a folder's files do not tell of themselves."""

from collections.abc import Mapping
from dataclasses import field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from codiemb.errors import UserError
from codiemb.raw_files.mapping import read_yaml
from codiemb.task_files.found import RECORDS, ROLES, USUAL, Kind

FILE = "task.yaml"
SIDES = ("query", "document")
_STRICT = ConfigDict(extra="forbid", str_strip_whitespace=True)


@checked(frozen=True, config=_STRICT)
class Described:
    """What a user says of a task; all of it may be left out.

    Attributes:
        kind: of the task.
        name: of the task; "": the folder's.
        files: role -> a file or pattern in the folder, or several, read one after the other.
        columns: our name -> theirs, in all files; or role -> our name -> theirs.
        split: the side that is scored, whatever `task.split` says: a file of qrels/, or of that name.
        instruction: of the queries and of all texts of symmetric tasks; or by side, query and document.
        metric: mteb's name of the main score, as ndcg_at_10 or ndcg@10.
        score_range: lowest and highest score of sts.
    """

    kind: Literal[Kind, ""] = ""
    name: str = ""
    files: dict[str, str | list[str]] = field(default_factory=dict)
    columns: dict[str, str | dict[str, str]] = field(default_factory=dict)
    split: str = ""
    instruction: str | dict[Literal["query", "document"], str] = ""
    metric: str = ""
    score_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.score_range is not None and not self.score_range[0] < self.score_range[1]:
            raise ValueError(f"score_range: {self.score_range[0]} is not below {self.score_range[1]}")
        if wrong := [role for role in self.files if role not in {*USUAL, RECORDS}]:
            raise ValueError(f"files: no role {wrong[0]!r}; there are {', '.join([*USUAL, RECORDS])}")

    @property
    def instructions(self) -> dict[str, str]:
        """By side."""
        if isinstance(self.instruction, str):
            return {"query": self.instruction} if self.instruction else {}
        return {str(side): instruction for side, instruction in self.instruction.items()}

    def columns_by_role(self, kind: Kind) -> Mapping[str, dict[str, str]]:
        """Theirs by role and our name.

        Raises:
            ValueError: a name that no file of this kind has.
        """
        by_role: dict[str, dict[str, str]] = {role: {} for role in ROLES[kind]}
        for ours, theirs in self.columns.items():
            if isinstance(theirs, dict):
                by_role.setdefault(ours, {}).update(theirs)
                continue
            roles = [role for role in ROLES[kind] if ours in USUAL[role]]
            if not roles:
                known = dict.fromkeys(name for role in ROLES[kind] for name in USUAL[role])
                raise ValueError(f"columns: {ours!r} is no name of ours; {kind} has {', '.join(known)}")
            for role in roles:
                by_role[role][ours] = theirs
        for role, names in by_role.items():
            if wrong := names.keys() - USUAL.get(role, {}).keys():
                raise ValueError(f"columns.{role}: {min(wrong)!r} is no name of ours; {_known(role)}")
        return by_role


def read_description(folder: Path) -> Described:
    """What the folder's task.yaml says; nothing where there is none.

    Raises:
        UserError: it cannot be read, or holds an unknown key or a wrong value.
    """
    path = folder / FILE
    if not path.is_file():
        if (other := folder / "task.yml").is_file():
            raise UserError(f"{other}: call it {FILE}")
        return Described()
    try:
        return TypeAdapter(Described).validate_python(read_yaml(path))
    except ValidationError as error:
        raise UserError("\n".join(_told(path, dict(each)) for each in error.errors())) from error


def _known(role: str) -> str:
    return f"there are {', '.join(USUAL[role])}" if role in USUAL else f"roles are {', '.join(USUAL)}"


def _told(path: Path, error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = list(Described.__dataclass_fields__)
        near = get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"{path}: unknown key {key}; {hint}"
    told = error["msg"].removeprefix("Value error, ")
    return f"{path}: {key}: {told}" if key else f"{path}: {told}"
