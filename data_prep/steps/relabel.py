"""Ask judges about the mined negatives: which are right after all, and which are better left out.

A cheap judge first: a cross-encoder (--judge), or scores that are there (--judge-scores NAME). A candidate
is negative below --negative-below, positive from --positive-from on, and unsure between them. The unsure go
to the strong judge: a second cross-encoder (--strong), other scores (--strong-scores NAME), or a language
model behind an OpenAI-compatible endpoint (--endpoint, --model), which says negative, positive or drop; its
word counts. Without one they are dropped.

A positive becomes a judgement, whose origin names the judge, and is no negative any more; what is dropped is
marked with its reason, and nothing is deleted. Pairs that qrels judge keep their judgement: a sample of them
is asked about, to see how far the judges agree with it. relabel.html shows that, relabel.parquet every pair.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codiemb.data.records import GRADED_TASKS
from codiemb.errors import UserError
from codiemb.mining.choose import pair_key
from data_prep.blocks import blocks
from data_prep.layout import CANDIDATES, QRELS, read_source, schema_of, tables_of
from data_prep.mining.scored_by import query_rows
from data_prep.pages.page import write_page
from data_prep.progress import Progress
from data_prep.relabelling.agreement import agreement, as_text, relabel_page
from data_prep.relabelling.options import Parameters, depends_on
from data_prep.relabelling.pairs import RELABELLED, Asked, known_pairs, unjudged
from data_prep.relabelling.panel import Panel, opened_panel
from data_prep.relabelling.verdicts import NEGATIVE, POSITIVE
from data_prep.relations import Ids, positions
from data_prep.step import Step, Work, join
from data_prep.texts import Texts
from data_prep.verdicts import mark

EVIDENCE = "relabel.parquet"
_PAIRS = 4_096  # judged between two syncs
_EXAMPLES = 8  # of each verdict
_CHARACTERS = 300
_SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("document", pa.string()),
        ("people", pa.string()),  # right or wrong, as qrels say; null: a candidate
        ("score", pa.float64()),  # the cheap judge's
        ("cheap", pa.string()),
        ("strong_score", pa.float64()),
        ("strong", pa.string()),  # null: not asked
        ("verdict", pa.string()),  # what counts
    ]
)


def run(work: Work[Parameters]) -> Mapping[str, Any]:
    """Mark candidates, add judgements, write the evidence; returns what was judged and how judges agree.

    Raises:
        UserError: graded pairs, nothing to judge, or a judge is not to be had.
    """
    options, source = work.options, work.source
    if (task := read_source(source)["task"]) in GRADED_TASKS:
        raise UserError(f"{source}: graded pairs ({task}) have no negatives to judge")
    ids = Ids.read(source)
    asked = [
        unjudged(source, ids, options.negatives),
        *known_pairs(source, ids, options.num_known, options.seed),
    ]
    rows = np.unique(np.concatenate([each.query_P for each in asked]))
    texts = query_rows(source, rows)
    queries = {int(row): text for row, (_, text) in zip(rows, texts, strict=True)}
    about: dict[str, Any] = {}
    with opened_panel(work, ids, queries, about) as panel:
        parts = _judged(work, ids, panel, asked)
        names = panel.names
    join(parts, work.out / EVIDENCE, _SCHEMA)
    _write_tables(work, ids, names)
    about["agreement"] = found = agreement(work.out / EVIDENCE)
    judges = [(role, name) for role, name in zip(("Cheap judge", "Strong judge"), names, strict=True) if name]
    page = relabel_page(read_source(source)["name"], judges, found, _examples(work, ids, queries))
    write_page(page, work.out / work.name)
    print(as_text(found))
    return about


def _judged(work: Work[Parameters], ids: Ids, panel: Panel, asked: Sequence[Asked]) -> list[Path]:
    """The evidence, piece by piece; what an interrupted run has judged is not judged again.

    What a language model has said is taken from its ledger again, so that the manifest counts it.
    """
    for old in work.parts.glob("judged-*") if work.options.asks_a_model else ():
        old.unlink()
    pieces = [each.part(start, _PAIRS) for each in asked for start in range(0, len(each.query_P), _PAIRS)]
    progress = Progress(work.name, sum(len(piece.query_P) for piece in pieces), "pairs")
    parts = []
    for number, piece in enumerate(pieces):
        make = partial(_evidence, ids, panel, piece)
        parts.append(work.table_part(f"judged-{number:06d}.parquet", _SCHEMA, make))
        progress.advance(len(piece.query_P))
    return parts


def _evidence(ids: Ids, panel: Panel, piece: Asked) -> pa.Table:
    columns = {
        "query": ids.query.take(pa.array(piece.query_P)),
        "document": ids.document.take(pa.array(piece.document_P)),
        "people": [piece.people or None] * len(piece.query_P),
        **panel.judge(piece.query_P, piece.document_P),
    }
    return pa.table(columns, schema=_SCHEMA)


def _write_tables(work: Work[Parameters], ids: Ids, names: tuple[str, str]) -> None:
    """Mark candidates that are no negatives any more, in every table; judge those that are right."""
    keys, reasons, parts = [np.zeros(0, np.int64)], list[str](), list[Path]()
    for number, block in enumerate(blocks(work.out / EVIDENCE)):
        candidates = block.filter(pc.is_null(block["people"]))
        changed = candidates.filter(pc.not_equal(candidates["verdict"], NEGATIVE))
        keys.append(_keys(ids, changed))
        reasons += changed["verdict"].to_pylist()
        right = changed.filter(pc.equal(changed["verdict"], POSITIVE))
        make = partial(_judgements, right, names)
        parts.append(work.table_part(f"right-{number:06d}.parquet", schema_of(QRELS), make))
    key = np.concatenate(keys)
    order = np.argsort(key)
    mark_block = partial(_marked, ids, key[order], [reasons[row] for row in order], work.name)
    for name in tables_of(work.source):
        if name.startswith(f"{CANDIDATES}/"):
            work.rewrite(name, mark_block)
    work.rewrite(QRELS, lambda block: block, parts)


def _keys(ids: Ids, pairs: pa.Table) -> np.ndarray:
    return pair_key(positions(ids.query, pairs["query"]), positions(ids.document, pairs["document"]))


def _judgements(right: pa.Table, names: tuple[str, str]) -> pa.Table:
    origins = [
        f"{RELABELLED}{names[0] if strong is None else names[1]}" for strong in right["strong"].to_pylist()
    ]
    columns = {
        "query": right["query"],
        "document": right["document"],
        "grade": pa.array([1.0] * len(right)),
        "origin": pa.array(origins, pa.string()),
    }
    return pa.table(columns)


def _marked(ids: Ids, key: np.ndarray, reasons: Sequence[str], by: str, block: pa.Table) -> pa.Table:
    """Rows whose pair is among the sorted keys get its reason; scores without a rank are no offer."""
    wanted = _keys(ids, block)
    place = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    found = (key[place] == wanted if len(key) else np.zeros(len(wanted), bool)) & block[
        "rank"
    ].is_valid().to_numpy()
    return mark(
        block, by, [reasons[at] if hit else None for at, hit in zip(place.tolist(), found, strict=True)]
    )


def _examples(work: Work[Parameters], ids: Ids, queries: Mapping[int, str]) -> list[dict[str, str]]:
    """The first pairs of each verdict, with their texts."""
    shown, count = list[dict[str, Any]](), Counter[str]()
    for block in blocks(work.out / EVIDENCE):
        for row in block.filter(pc.is_null(block["people"])).to_pylist():
            if count[row["verdict"]] < _EXAMPLES:
                count[row["verdict"]] += 1
                shown.append(row)
    texts = Texts(work.parts / "texts.arrow")
    query = positions(ids.query, pa.chunked_array([[row["query"] for row in shown]], pa.string()))
    document = positions(ids.document, pa.chunked_array([[row["document"] for row in shown]], pa.string()))
    return [
        {
            "verdict": row["verdict"],
            "query": _cut(queries[int(asked)]),
            "document": _cut(texts[int(told)]),
            "score": "–" if row["score"] is None else f"{row['score']:.4g}",
        }
        for row, asked, told in sorted(
            zip(shown, query, document, strict=True), key=lambda each: each[0]["verdict"]
        )
    ]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS].rstrip()} …"


STEP = Step(Parameters, run, depends_on=depends_on)
