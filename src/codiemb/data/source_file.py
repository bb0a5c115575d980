"""A file of training data as the config names it, and where it is converted to."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from codiemb.data.cache import folder_name
from codiemb.data.formats import check_file
from codiemb.errors import UserError

_NAME_CHARACTERS = 255


@dataclass(frozen=True)
class SourceFile:
    """A file as the config names it; its settings are those of `SourceConfig`.

    Files of one name are the shards of one source, in their order.

    Raises:
        UserError: a name that cannot stand in the name of a metric or of a file.
    """

    name: str
    path: Path
    score_range: tuple[float, float] = (0.0, 1.0)
    in_batch: bool = True

    def __post_init__(self) -> None:
        if problem := name_problem(self.name):
            raise UserError(
                f"a source cannot be called {self.name!r} ({self.path}): {problem}. Its name stands in the "
                "names of metrics and files; give it another: +data.sources.NAME.path=FILE"
            )


def cache_folder(file: SourceFile, cache: Path) -> Path:
    """Where a file is converted to; another folder for every state of it that its size and time can tell.

    Raises:
        UserError: the file cannot be read.
    """
    state = check_file(file.path)
    return cache / folder_name(file.path.resolve(), state, str(file.score_range))


def name_problem(name: str) -> str:
    """Why a name cannot stand in the name of a metric or of a file; "" where it can."""
    if not name.strip() or name != name.strip():
        return "it is empty, or begins or ends with a space"
    if name.startswith("."):
        return "it begins with a dot"
    if bad := [c for c in name if c in "/\\" or unicodedata.category(c)[0] == "C"]:
        return f"it holds {bad[0]!r}"
    if len(name) > _NAME_CHARACTERS:
        return f"it has {len(name)} characters, of at most {_NAME_CHARACTERS}"
    return ""
