"""The docs files of the other stages: raw text to pretrain on, and weak pairs to align on."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from data_prep.docs.build import MAX_FILES, PACKAGES, TASK_INSTRUCTION, Item, parse_all
from data_prep.docs.clean import normalise
from data_prep.docs.parse import source_files
from data_prep.docs.raw import Definition, ParsedFile, parse_raw
from data_prep.docs.select import mask, split_of
from data_prep.held_out import HeldOut
from data_prep.records import Record, raw_text, retrieval, write_jsonl

NAME_INSTRUCTION = "Given the name of a function or class, retrieve its summary"
CLASS_INSTRUCTION = "Given a class, retrieve its methods"


def build_docs_extra(
    out: Path, packages: Sequence[str] = PACKAGES, max_files: int = MAX_FILES, workers: int = 2
) -> dict[str, int]:
    """Write train/docs_{lm,name,body,methods}.jsonl from the training modules; return their sizes.

    `out` holds the evaluation sets: their texts, and near copies of them, are left out. The same package
    versions give the same bytes.
    """
    items: list[Item] = [item for package in packages for item in source_files(package, max_files)]
    parsed = parse_all(parse_raw, [item for item in items if split_of(item[1]) == "train"], workers)
    held_out = HeldOut.of(out, "DocsRetrieval")
    unseen = [d for file in parsed for d in file.definitions if not _is_known(d, held_out)]
    definitions = _distinct(unseen)
    files: dict[str, list[Record]] = {
        "docs_lm": list(_raw_texts(parsed, held_out)),
        "docs_name": list(_names(definitions)),
        "docs_body": list(_bodies(definitions, held_out)),
        "docs_methods": list(_methods(unseen)),
    }
    for name, records in files.items():
        write_jsonl(out / "train" / f"{name}.jsonl", records)
    counts = {f"train/{name}.jsonl": len(records) for name, records in files.items()}
    print(f"docs: {len(parsed)} training files, {counts}")
    return counts


def _raw_texts(parsed: Sequence[ParsedFile], held_out: HeldOut) -> Iterator[Record]:
    """One record a docstring, and one for all comments of a file; no near copies."""
    seen = held_out.copies()
    for file in parsed:
        for text in file.texts:
            if not held_out.has(text) and seen.is_new(mask(text)):
                yield raw_text(text)


def _is_known(definition: Definition, held_out: HeldOut) -> bool:
    return held_out.has(definition.summary) or bool(definition.body and held_out.has(definition.body))


def _distinct(definitions: Iterable[Definition]) -> list[Definition]:
    """The first definition of each summary."""
    first: dict[str, Definition] = {}
    for definition in definitions:
        first.setdefault(normalise(definition.summary), definition)
    return list(first.values())


def _names(definitions: Sequence[Definition]) -> Iterator[Record]:
    for d in definitions:
        yield retrieval(NAME_INSTRUCTION, f"{d.module}.{d.name}", [d.summary])


def _bodies(definitions: Sequence[Definition], held_out: HeldOut) -> Iterator[Record]:
    seen = held_out.copies()
    for d in definitions:
        if d.body and seen.is_new(mask(d.body, d.module, d.name)):
            yield retrieval(TASK_INSTRUCTION, d.summary, [d.body])


def _methods(definitions: Sequence[Definition]) -> Iterator[Record]:
    """A class and all its methods: each a positive, so that none is the negative of another."""
    methods: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for d in definitions:
        owner, _, method = d.name.rpartition(".")
        methods[d.module, owner].append(f"{method}: {d.summary}")
    for d in _distinct(d for d in definitions if d.is_class):
        if found := methods.get((d.module, d.name)):
            yield retrieval(CLASS_INSTRUCTION, f"{d.name}: {d.summary}", found)
