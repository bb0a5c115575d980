"""Mark texts that stand on the test side of an evaluation, with the words that say so.

--against names tasks: a folder of them (data/builtin/eval/test), a file of texts, a task of mteb, or a
benchmark (cmteb, or a name of mteb's). Of each task all queries are test texts, and those documents that
answer one (--documents): a corpus that both sides search is no contamination. A row of queries or corpus is
marked if

  same text    it is a test text, by the trainer's content hash
  13-grams     it holds at least --min-share of a test text's runs of 13 words (characters of Chinese)
  cosine       its embedding is within --min-cosine of a test text's (only with --encoder)

Nothing is deleted: rows get the verdict `decontaminate`. contamination.parquet has a row for each with the
test text and what both have in common, decontaminate.html and .md show them by task. The manifest says which
tasks were checked, and export takes that along to the training files. A test text of less than 13 words is
only found as a whole, or by its embedding. Memory: the test texts, and 24 bytes for each of their words.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codiemb.errors import UserError
from data_prep.blocks import block, block_sizes, blocks
from data_prep.contamination.cosine import Nearest, nearest
from data_prep.contamination.index import SAME_TEXT, Match, ScoredIndex
from data_prep.contamination.report import contamination_page
from data_prep.contamination.sides import Documents, find_checked, read_side
from data_prep.layout import CORPUS, QUERIES, document_text, read_source
from data_prep.mining.scored_by import DocumentRows, query_rows
from data_prep.mining.searchers import Library, load_sides
from data_prep.options import option
from data_prep.pages.page import write_page
from data_prep.relations import check_columns
from data_prep.search.fingerprint import folder_hashes
from data_prep.step import Step, Work, join
from data_prep.texts import Texts
from data_prep.verdicts import mark

EVIDENCE = "contamination.parquet"
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("table", "id", "reason")]
    + [("share", pa.float64())]
    + [(name, pa.string()) for name in ("task", "side", "test", "test_text", "span")]
)


@dataclass(frozen=True)
class Parameters:
    """What is compared, and what is too much."""

    against: list[str] = option([], "folders of tasks, files, tasks or benchmarks of mteb: a,b")
    split: str = option("test", "of folders that have several sides")
    documents: Documents = option("paired", "of a test corpus: paired (those that answer a query), all, none")
    ngram: int = option(13, "words in a row, or characters of Chinese")
    min_share: float = option(0.5, "of a test text's n-grams; a row with at least so many is marked")
    encoder: str = option("", "also compare embeddings of this model folder or hub name")
    library: Library = option("codiemb", "that loads the encoder")
    min_cosine: float = option(0.95, "a row that is at least so near to a test text is marked")
    max_tokens: int | None = option(None, "texts are cut here before they are encoded (the encoder's own)")
    device: str = option("cpu", "cpu or cuda")
    cache: str = option("data/embeddings", "embeddings are kept here and used again")


def run(work: Work[Parameters]) -> Mapping[str, Any]:
    """Mark rows of queries and corpus; returns what was checked.

    Raises:
        UserError: an option is wrong, a task cannot be read, or there is no test text at all.
    """
    options = work.options
    check_columns(work.source)
    found = find_checked(_names(options.against), options.split)
    texts = [text for each in found for text in read_side(each, options.documents)]
    if not texts:
        raise UserError(
            f"against={','.join(options.against)}: no text is scored there; nothing to compare with"
        )
    index = ScoredIndex(texts, options.ngram)
    near = _nearest(work, index) if options.encoder else {}
    tables = [name for name in (QUERIES, CORPUS) if (work.source / name).is_file()]
    evidence = [part for name in tables for part in _search(work, name, index, near.get(name))]
    join(evidence, work.out / EVIDENCE, _SCHEMA)
    rows = [row for each in blocks(work.out / EVIDENCE) for row in each.to_pylist()]
    for name in tables:
        reasons = {row["id"]: row["reason"] for row in rows if row["table"] == name}
        work.rewrite(name, partial(_marked, work.name, reasons))
    count = Counter(text.task for text in texts)
    checked = [
        {"name": each.name, "revision": each.revision, "splits": list(each.splits), "texts": count[each.name]}
        for each in found
    ]
    write_page(contamination_page(str(read_source(work.source)["name"]), checked, rows), work.out / work.name)
    encoder = {"encoder": next(iter(near.values())).encoder} if near else {}
    return {"checked_against": checked, **encoder}


def _names(against: Sequence[str]) -> list[str]:
    """As they were named: `MTEB(cmn, v1)` has a comma, at which the command line's list was cut."""
    names = list[str]()
    for part in against:
        if names and names[-1].count("(") > names[-1].count(")"):
            names[-1] += f", {part}"
        else:
            names.append(part)
    if not names:
        raise UserError("decontaminate: --against names what to compare with: folders, files, tasks of mteb")
    return names


class _Block(NamedTuple):
    """A block of a table, and the number of its first row in the table."""

    number: int
    first: int


def _search(work: Work[Parameters], name: str, index: ScoredIndex, near: Nearest | None) -> list[Path]:
    """The evidence of each block of a table, as files."""
    sizes = block_sizes(work.source / name)
    places = [_Block(number, sum(sizes[:number])) for number in range(len(sizes))]
    stem = name.removesuffix(".parquet")
    return [
        work.table_part(
            f"found-{stem}-{place.number:06d}.parquet",
            _SCHEMA,
            partial(_evidence, work, name, place, index, near),
        )
        for place in places
    ]


def _evidence(
    work: Work[Parameters], name: str, place: _Block, index: ScoredIndex, near: Nearest | None
) -> pa.Table:
    read = block(work.source / name, place.number)
    texts, ids = _texts(read), read["id"].to_pylist()
    matches = {match.row: match for match in index.matches(texts, work.options.min_share)}
    if near is not None:
        for row in range(len(texts)):
            test, cosine = int(near.test[place.first + row]), float(near.cosine[place.first + row])
            if texts[row] and cosine >= work.options.min_cosine:
                matches.setdefault(row, Match(row, test, "cosine", cosine))
    rows = [
        {"table": name, "id": ids[row], **_shown(match, index, texts[row])}
        for row, match in sorted(matches.items())
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _shown(match: Match, index: ScoredIndex, text: str) -> dict[str, Any]:
    test = index.texts[match.test]
    return {
        "reason": match.reason,
        "share": match.share,
        "task": test.task,
        "side": test.side,
        "test": test.id,
        "test_text": test.text,
        "span": index.span(text, match.test) or (text if match.reason == SAME_TEXT else ""),
    }


def _texts(read: pa.Table) -> list[str]:
    """The texts of a block, empty where a step has dropped the row."""
    titles = read["title"].to_pylist() if "title" in read.column_names else [None] * len(read)
    kept = pc.is_null(read["dropped_by"]).to_pylist()
    rows = zip(titles, read["text"].to_pylist(), kept, strict=True)
    return [document_text(title, text or "") if is_kept else "" for title, text, is_kept in rows]


def _nearest(work: Work[Parameters], index: ScoredIndex) -> dict[str, Nearest]:
    """By table, of every row."""
    options, source, found = work.options, work.source, dict[str, Nearest]()
    _, encoder = load_sides(
        options.library, options.encoder, max_tokens=options.max_tokens, device=options.device
    )
    search = partial(
        nearest, tests=index.texts, encoder=encoder, cache=Path(options.cache), device=options.device
    )
    if (source / QUERIES).is_file():
        rows = query_rows(source, np.arange(sum(block_sizes(source / QUERIES))))
        found[QUERIES] = search([("", text) for _, text in rows])
    texts = Texts(work.part("texts.arrow", lambda path: Texts.write(source / CORPUS, path)))
    found[CORPUS] = search(DocumentRows(texts, np.arange(len(texts))))
    return found


def _marked(by: str, reasons: Mapping[str, str], read: pa.Table) -> pa.Table:
    return mark(read, by, [reasons.get(name) for name in read["id"].to_pylist()])


def _depends_on(options: Parameters) -> Mapping[str, Any]:
    """What is compared with, by content or revision, and the encoder's files."""
    if not 0 < options.min_share <= 1:
        raise UserError(f"decontaminate: min_share={options.min_share} must be above 0 and at most 1")
    if options.ngram < 2:
        raise UserError(f"decontaminate: ngram={options.ngram} must be at least 2")
    found = find_checked(_names(options.against), options.split)
    depends: dict[str, Any] = {each.name: each.revision for each in found}
    if options.encoder and Path(options.encoder).is_dir():
        depends["encoder"] = folder_hashes(Path(options.encoder))
    return depends


STEP = Step(Parameters, run, depends_on=_depends_on)
