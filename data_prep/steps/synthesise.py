"""Let a language model write queries, documents and judgements, behind any OpenAI-compatible endpoint.

--recipe NAME takes one of data_prep/prompts, or a file of your own (--recipe my.yaml): what the model is
asked, what is drawn for each row, and what becomes of the answers.

  query              a query that a passage answers: first who asks and why, then the query
  multi_hop          a query that needs two passages that are alike
  paraphrases        other words for a query
  hard_negatives     documents near a query that do not answer it: candidates/RECIPE.parquet
  graded_list        documents for a query, from right to wrong, with scores
  graded_pairs       sentences that mean the same as one to 0 to 5 degrees: a source of its own
  tasks              brainstormed tasks, and an example of each: a source of its own, from nothing (--count)
  sts, bitext        graded pairs, and texts with their translation: likewise

Every answer is kept in the ledger, a file beside --out; none is asked for twice, whatever happens and
whatever other options say. Answers are checked; those that are of no use stand in rejects.jsonl, with the
reason. The key comes from an environment variable and is written nowhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

from codiemb.errors import UserError
from data_prep.endpoint.options import EndpointOptions
from data_prep.endpoint.session import Session, ledger_path
from data_prep.layout import CORPUS, read_source
from data_prep.options import option
from data_prep.progress import Progress
from data_prep.step import Step, Work
from data_prep.synthesis.prompt import Prompt, hash_of, load_prompt, prompt_file
from data_prep.synthesis.questions import Interview, Outcome
from data_prep.synthesis.rows import Rows, Wanted, new_rows, read_rows
from data_prep.synthesis.writer import (
    Made,
    describe_source,
    empty_others,
    making,
    put_together,
    refuse_taken,
)
from data_prep.texts import Texts

_BLOCK = 4096  # rows whose results are in memory
_MADE = "made"  # a folder of the new rows alone, gone at the end


@dataclass(frozen=True)
class Parameters(EndpointOptions):
    """What is made, of what, and who is asked."""

    recipe: str = option("", "a name from data_prep/prompts, or the path of a YAML file like those")
    prompt_language: Literal["en", "zh"] = option("en", "of the recipe's prompts, where it comes from there")
    count: int | None = option(None, "of the rows that are read, drawn; or examples from nothing")
    per_row: int = option(1, "so often each, with other draws")
    tries: int = option(1, "an answer that is of no use is asked for so often, each time with another seed")
    max_characters: int = option(8000, "a passage is cut here before it is sent")
    seed: int = option(0, "of all that is drawn")
    name: str = option("", "of the source or the candidates that are made (the recipe's)")


def run(work: Work[Parameters]) -> Mapping[str, Any]:
    """Write the tables; returns what was asked, made and rejected.

    Raises:
        UserError: an option is wrong, or the run cannot go on; the ledger has what was answered.
    """
    options = work.options
    path = prompt_file(options.recipe, options.prompt_language)
    prompt, name = load_prompt(path), options.name or path.name.removesuffix(path.suffix)
    rows = _rows(work, prompt, name)
    source = None if prompt.is_new_source else work.source
    if source is not None:
        refuse_taken(source, name)
    ledger = ledger_path(options, work.destination)
    with (
        Session.opened(options, ledger) as session,
        making(work.out / _MADE, source, prompt.language or None) as made,
    ):
        instruction = read_source(source).get("instruction") or "" if source is not None else ""
        interview = Interview(prompt, name, instruction, seed=options.seed, tries=options.tries)
        _ask(session, interview, rows, made)
        taken = session.taken()
    if not made.rows:
        raise UserError(
            f"{options.recipe}: not one of {len(rows):,} answers is of use: {made.rejected}; look at {ledger}"
        )
    _write(work, prompt, name, source)
    return {"model": options.model, **taken, "made_of": made.rows, "rejected": made.rejected}


def _rows(work: Work[Parameters], prompt: Prompt, name: str) -> Rows:
    options = work.options
    wanted = Wanted(options.count, options.per_row, options.seed, options.max_characters)
    if prompt.reads == "nothing":
        if work.sources:
            raise UserError(f"synthesise: {name} reads nothing: leave --in out; it makes a source of its own")
        return new_rows(name, wanted)
    if not work.sources:
        raise UserError(f"synthesise: {name} reads a source ({prompt.reads}): --in DIR")
    if (task := read_source(work.source)["task"]) != "ir":
        raise UserError(f"{work.source}: a source of task {task}; synthesise reads one of task ir")
    path = work.part("texts.arrow", lambda path: Texts.write(work.source / CORPUS, path))
    return read_rows(work.source, prompt.reads, Texts(path), wanted)


def _ask(session: Session, interview: Interview, rows: Rows, made: Made) -> None:
    """Row by row in their order, whatever order the answers come in."""
    progress = Progress("synthesise", len(rows), "rows", note=session.note)
    for start in range(0, len(rows), _BLOCK):
        for outcome in session.map(rows.block(start, start + _BLOCK), interview.of_row, progress.advance):
            _keep(made, outcome)


def _keep(made: Made, outcome: Outcome) -> None:
    for rejected in outcome.rejected:
        made.reject(*rejected)
    if outcome.items:
        made.add(outcome.items, outcome.label)


def _write(work: Work[Parameters], prompt: Prompt, name: str, source: Path | None) -> None:
    folder = work.out / _MADE
    put_together(folder, source, work.out, name)
    rmtree(folder)
    if prompt.is_new_source:
        empty_others(list(work.sources), work.out)
        about = {
            "name": name,
            "task": "sts" if prompt.makes == "graded_pairs" else "ir",
            "language": prompt.language or "mul",
            "made_by": work.options.model,
        }
        describe_source(work.out, list(work.sources), about)


def _depends_on(options: Parameters) -> Mapping[str, Any]:
    options.check()
    for key in ("count", "per_row", "tries", "max_characters"):
        if (value := getattr(options, key)) is not None and value < 1:
            raise UserError(f"synthesise: {key}={value} must be at least 1")
    if options.name and not re.fullmatch(r"\w[\w.+-]*", options.name):
        raise UserError(f"name={options.name!r}: only letters, digits and _ . + - (it becomes a file's name)")
    path = prompt_file(options.recipe, options.prompt_language)
    load_prompt(path)
    return {"prompt": hash_of(path)}


STEP = Step(Parameters, run, depends_on=_depends_on, inputs="optional")
