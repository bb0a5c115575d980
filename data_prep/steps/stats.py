"""Look at a training mixture: one page as HTML and as Markdown, and its numbers as stats.json.

Reads folders that export wrote (--in), and other training files (--files). Records and lengths by source and
task, what the plan's limits cut off, documents of a query, equal texts within sources and between them,
languages, scores, licences and lineage; and under --plan the steps and tokens of an epoch, by the trainer's
own plan. Memory: 8 bytes for each different query and document (their 64-bit hashes), 24 at times.

--plan FILE is a training run's config.yaml, or YAML with the same keys; a pipeline may hold them itself:

  plan: {tasks: {ir: {global_batch_size: 64, max_query_tokens: 64, num_negatives: 4}}}
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from codiemb.atomic import write_text
from codiemb.data import read_records
from codiemb.encoder.tokenization import PromptTemplate
from codiemb.errors import UserError
from data_prep.layout import read_source
from data_prep.manifest import hash_file, read_manifest
from data_prep.options import option
from data_prep.pages.page import write_page
from data_prep.progress import Progress
from data_prep.statistics.count import KnownLengths, Ruler, count_records
from data_prep.statistics.counts import Counts, load, save
from data_prep.statistics.lineage import lineage
from data_prep.statistics.mixture import CountedSource, Mixture, numbers
from data_prep.statistics.page import mixture_page
from data_prep.statistics.planned import TrainingPlan, read_plan
from data_prep.step import Step, Work
from data_prep.token_counts import fingerprint

_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
_PROMPTS = PromptTemplate()


@dataclass(frozen=True)
class Parameters:
    """What to count, and for which plan."""

    files: list[str] = option([], "training files beside the folders; the name of a source is its file's")
    tokenizer: str = option("", "folder or hub name of a tokenizer: lengths in tokens, not in characters")
    plan: dict[str, Any] | str = option(
        "", "a training run's config.yaml, or keys like it (needs --tokenizer)"
    )
    query_prompt: str = option(_PROMPTS.query, "the model's prompt.query: it counts as tokens")
    document_prompt: str = option(_PROMPTS.document, "the model's prompt.document")
    score_range: list[float] = option([0.0, 1.0], "lowest and highest gold score of --files")


class _File(NamedTuple):
    """A training file, the source that it belongs to, and what is said of that."""

    path: Path
    source: str
    score_range: tuple[float, float]
    licence: str
    lineage: str


def run(work: Work[Parameters]) -> Mapping[str, Any]:
    """Write stats.html, stats.md and stats.json.

    Raises:
        UserError: no file to read, a bad record, a plan that is none.
    """
    options = work.options
    plan = read_plan(options.plan)
    files = [*_exported(work), *_named(options)]
    if not files:
        raise UserError(
            "stats: nothing to read; give --in FOLDER (that export wrote), or --files a.jsonl,b.jsonl"
        )
    counted = _count(work, files, _ruler(options, plan))
    mixture = Mixture(counted, "tokens" if options.tokenizer else "characters", plan)
    write_page(mixture_page(mixture), work.out / "stats")
    about = numbers(mixture)
    write_text(work.out / "stats.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return {"records": sum(source.counts.records for source in counted)}


def _exported(work: Work[Parameters]) -> Iterator[_File]:
    for folder in work.sources:
        names = [name for name in read_manifest(folder)["files"] if name.endswith(_SUFFIXES)]
        if read_manifest(folder)["step"] != "export":
            raise UserError(f"{folder}: not what export wrote; run it first: python -m data_prep export")
        about = read_source(folder)
        for name in names:
            licence = str(about.get("licence") or "not said")
            yield _File(folder / name, about["name"], (0.0, 1.0), licence, lineage(folder))


def _named(options: Parameters) -> Iterator[_File]:
    if len(options.score_range) != 2:
        raise UserError(f"stats: score_range={options.score_range} must be LOWEST,HIGHEST")
    low, high = options.score_range
    for name in options.files:
        path = Path(name)
        stem = next((path.name.removesuffix(end) for end in _SUFFIXES if path.name.endswith(end)), path.stem)
        yield _File(path, stem, (low, high), "not said", "a file of one's own")


def _ruler(options: Parameters, plan: TrainingPlan | None) -> Ruler:
    if plan is not None and not options.tokenizer:
        raise UserError("stats: --plan needs --tokenizer FOLDER: its limits are in tokens")
    template = PromptTemplate(options.query_prompt, options.document_prompt)
    return Ruler(options.tokenizer, template, plan.tasks if plan else {}, KnownLengths())


def _count(work: Work[Parameters], files: list[_File], ruler: Ruler) -> list[CountedSource]:
    """Count each file once, and join the files of a source; a source of several tasks is several sources."""
    found: dict[tuple[str, str], CountedSource] = {}
    progress = Progress(work.name, len(files), "files")
    for index, file in enumerate(files):
        for task, counts in load(work.part(f"{index:05d}.npz", _counter(file, ruler))).items():
            key = (file.source, task)
            if key in found:
                found[key].counts.merge(counts)
            else:
                found[key] = CountedSource(file.source, task, counts, file.licence, file.lineage)
        progress.advance(1)
    several = {name for name, _ in found if sum(name == other for other, _ in found) > 1}
    return [
        source._replace(name=f"{name}.{task}") if name in several else source
        for (name, task), source in found.items()
    ]


def _counter(file: _File, ruler: Ruler) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        counts: dict[str, Counts] = count_records(
            read_records(file.path, score_range=file.score_range), ruler
        )
        save(path, counts)

    return write


def _depends_on(options: Parameters) -> Mapping[str, Any]:
    """The named files and the tokenizer, by content."""
    depends: dict[str, Any] = {"files": [_hash(Path(name)) for name in options.files]}
    if options.tokenizer:
        depends["tokenizer"] = fingerprint(options.tokenizer)
    if isinstance(options.plan, str) and options.plan:
        read_plan(options.plan)
        depends["plan"] = hash_file(Path(options.plan))
    return depends


def _hash(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path}: no such file; stats --files names training files")
    return hash_file(path)


STEP = Step(Parameters, run, depends_on=_depends_on, inputs="many", makes_source=False)
