"""A recipe for files that somebody has, made from a few options: for a layout whose columns are known."""

from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any

from codiemb.errors import UserError
from codiemb.raw_files.rows import KINDS, is_readable
from data_prep.fetch.raw import list_files
from data_prep.fetch.recipe import Recipe, parse_recipe

OWN = "own"  # the licence of one's own files: nothing to accept
_RECORDS = [
    f"*.{kind}{packed}"
    for kind in ("jsonl", "json", "csv", "tsv", "parquet")
    for packed in ("", ".gz", ".zst")
]


def own_recipe(
    importer: str, path: Path, columns: Sequence[str], about: dict[str, Any], split: str
) -> Recipe:
    """A recipe for the files of one layout.

    Args:
        importer: which layout.
        path: a file, or a folder with any number of them; for BEIR the folder with corpus.jsonl.
        columns: OURS=THEIRS.
        about: other keys of the recipe; `labels` as LABEL=GRADE.
        split: of BEIR's qrels.

    Raises:
        UserError: a layout that takes a recipe, or columns or labels that are no pairs.
    """
    if importer in ("tables", "triples", "labelled"):
        raise UserError(
            f"--importer {importer} needs a recipe that says which file holds what: copy one like it from "
            "data_prep/recipes and give it with --recipe FILE.yaml --from FOLDER"
        )
    files: dict[str, Any]
    if importer == "beir":
        files = {name: {"path": f"{name}.jsonl*"} for name in ("corpus", "queries")}
        files["qrels"] = {"path": f"qrels/{split}.tsv*"}
    else:
        named = _pairs("--columns", columns, "OURS=THEIRS, as query=question")
        files = {"records": {"path": _records(path), "columns": named}}
    labels = _pairs("--labels", about.pop("labels", []), "LABEL=GRADE, as entailment=1")
    values = {"importer": importer, "files": files, "licence": OWN, "labels": labels, **about}
    return parse_recipe(path.name.partition(".")[0], values, f"--importer {importer}")


def _pairs(option: str, given: Sequence[str], form: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if wrong := ["".join(pair) for pair in pairs if not (pair[0] and pair[2])]:
        raise UserError(f"{option} {wrong[0]}: must be {form}")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _records(path: Path) -> list[str]:
    """The file, or all files of a folder that can be read."""
    if path.is_file():
        return [escape(path.name)]
    names = [escape(name) for name in list_files(path) if is_readable(Path(name))]
    if not names:
        raise UserError(f"{path}: no file here whose name says that it is {', '.join(KINDS)}")
    return names
