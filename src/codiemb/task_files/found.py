"""What a folder is as a task: its kind, its files, and the columns in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from codiemb.errors import UserError
from codiemb.raw_files.rows import is_readable

Kind = Literal["retrieval", "reranking", "sts", "pair_classification", "classification", "clustering"]
RECORDS = "records"  # the role of files of training records, of retrieval or sts

_SENTENCE = "sentence{0}|text{0}|sent{0}|sentence_{0}|text_{0}|text_{1}|sentence_{1}|question{0}|query{0}"
_TEXT = {"text": "text|sentence|content|utterance|query", "label": "label|labels|category|intent|class|topic"}
# role -> our names -> the usual names of others, the first that a row has
USUAL: Mapping[str, Mapping[str, str]] = {
    "corpus": {
        "id": "_id|id|doc_id|docid|document_id|corpus_id|corpus-id|pid",
        "title": "title",
        "text": "text|contents|content|passage|document|body",
    },
    "queries": {"id": "_id|id|query_id|query-id|qid", "text": "text|query|question"},
    "qrels": {
        "query": "query-id|query_id|qid|query",
        "document": "corpus-id|corpus_id|doc-id|doc_id|docid|pid|document",
        "grade": "score|grade|relevance|rel|label",
    },
    "top_ranked": {
        "query": "query-id|query_id|qid|query",
        "documents": "corpus-ids|corpus_ids|doc_ids|candidates|documents",
    },
    "pairs": {
        "sentence1": _SENTENCE.format(1, "a"),
        "sentence2": _SENTENCE.format(2, "b"),
        "score": "score|similarity|similarity_score|relatedness_score|labels|label",
        "label": "label|labels|is_duplicate|gold_label",
    },
    "train": _TEXT,
    "test": _TEXT,
    "texts": _TEXT,
}
# kind -> the roles of its files; top_ranked is reranking's, the others come before it
ROLES: Mapping[Kind, tuple[str, ...]] = {
    "retrieval": ("corpus", "queries", "qrels"),
    "reranking": ("corpus", "queries", "qrels", "top_ranked"),
    "sts": ("pairs",),
    "pair_classification": ("pairs",),
    "classification": ("train", "test"),
    "clustering": ("texts",),
}


@dataclass(frozen=True)
class Found:
    """A task in a folder.

    Attributes:
        name: of the task.
        kind: of the task.
        folder: that holds it.
        files: by role; a role's files are read one after the other.
        split: the name of the side that is scored.
        columns: theirs by role and our name, where they are not the usual ones.
        score_range: lowest and highest score of sts; None: any.
        metric: mteb's main score; "": that of the kind.
        instructions: of each side, "query" and "document", where the task states its own.
    """

    name: str
    kind: Kind
    folder: Path
    files: Mapping[str, tuple[Path, ...]]
    split: str
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    score_range: tuple[float, float] | None = None
    metric: str = ""
    instructions: Mapping[str, str] = field(default_factory=dict)

    def columns_of(self, role: str) -> dict[str, str]:
        """Theirs by ours."""
        return {**USUAL[role], **self.columns.get(role, {})}

    @property
    def all_files(self) -> list[Path]:
        """Each file once, in one order."""
        return sorted({path for paths in self.files.values() for path in paths})


def listed(names: list[str], limit: int = 10) -> str:
    """The first names of many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def files_there(folder: Path) -> list[Path]:
    """The files of a folder that are not hidden, sorted.

    Raises:
        UserError: the folder cannot be listed.
    """
    return [path for path in entries(folder) if path.is_file()]


def entries(folder: Path) -> list[Path]:
    """What a folder holds and does not hide, sorted.

    Raises:
        UserError: the folder cannot be listed, or holds a link to data or to a folder that is not there.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.name[0] != ".")
        lost = [path for path in found if path.is_symlink() and not path.exists()]
    except OSError as error:
        raise unreadable(folder, error) from error
    if wanted := [path for path in lost if is_readable(path) or not path.suffix]:
        raise UserError(
            f"{wanted[0]}: a link to {wanted[0].readlink()}, which is not there; mend it or delete it"
        )
    return found


def unreadable(path: Path, error: OSError) -> UserError:
    """That a folder or file cannot be read, and what to do."""
    return UserError(
        f"{path}: cannot be read ({error.strerror or error}); give your user the right to read it and to "
        "enter its folders (chmod)"
    )
