"""Search for hard negatives: documents near a query that do not answer it.

All documents are searched, exactly: by the cosines of an encoder, by BM25, or by both (reciprocal rank
fusion). What is found is kept with its raw rank and its score in candidates/NAME.parquet, each row with a
verdict: known to be right (by id, by text, by cluster), outside the window of ranks, outside a limit, not
chosen. Rows without a verdict are the negatives. A query has as many as it has: nothing is filled up. With
other limits the step runs again on what was encoded before.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from codiemb.errors import UserError
from codiemb.mining.choose import Choice
from codiemb.mining.limits import Limits
from data_prep.blocks import blocks, kept
from data_prep.layout import CANDIDATES, CORPUS, SCHEMAS
from data_prep.mining.known import Known
from data_prep.mining.rows import Judge, Reference, ScorePairs, Taking
from data_prep.mining.scored_by import CrossEncoderScores, DocumentRows, SearchScores, query_rows
from data_prep.mining.searchers import (
    QUERIES_PER_BLOCK,
    Dense,
    Fused,
    Lexical,
    Library,
    Searcher,
    kept_embeddings,
    load_sides,
)
from data_prep.options import option
from data_prep.progress import Progress
from data_prep.relations import Ids
from data_prep.search.bm25 import Bm25Index
from data_prep.search.encoders import Row
from data_prep.search.fingerprint import folder_hashes
from data_prep.search.pair_scorer import cross_encoder_identity, load_cross_encoder
from data_prep.step import Step, Work, join
from data_prep.texts import Texts


@dataclass(frozen=True)
class Parameters:
    """How to search, and what may be a negative."""

    search: Literal["dense", "bm25", "rrf"] = option("dense", "dense, bm25, or rrf: both, by their ranks")
    encoder: str = option("", "dense and rrf: a model folder or hub name")
    library: Library = option("codiemb", "that loads the encoder")
    max_tokens: int | None = option(None, "texts are cut here before they are encoded (the encoder's own)")
    query_prompt: str | None = option(None, "before queries; {instruction} is their own (as the model says)")
    document_prompt: str | None = option(None, "before documents (as the model says)")
    device: str = option("cpu", "cpu or cuda")
    cross_encoder: str = option("", "score every candidate with this; limits then hold for its scores")
    name: str = option("", "of the candidates (the kind of search)")
    min_rank: int = option(1, "the first raw rank of a negative")
    max_rank: int = option(50, "the last one; so many documents are found for each query")
    margin: float | None = option(None, "a negative scores at most the positive's score less this")
    percent: float | None = option(None, "at most this share of the positive's score (0.95)")
    lowest: float | None = option(None, "a negative scores at least this")
    highest: float | None = option(None, "a negative scores at most this")
    reference: Reference = option("lowest", "the positive to compare with: of the lowest or highest score")
    num_negatives: int = option(8, "of a query, at most")
    choice: Choice = option("top", "top: the best ranks; random; spread: some at equal distances")
    seed: int = option(0, "of the random choice")
    cache: str = option("data/embeddings", "embeddings are kept here and used again")


def run(work: Work[Parameters]) -> dict[str, Any]:
    """Write candidates/NAME.parquet; returns what searched, and how many negatives queries have.

    Raises:
        UserError: an option is wrong, or there is nothing to search with or for.
    """
    options, source = work.options, work.source
    limits, name = _limits(options), _name(options)
    if (source / CANDIDATES / f"{name}.parquet").is_file():  # another encoder's, or a teacher's scores
        raise UserError(
            f"{source} has candidates of the name {name!r}, which these would replace: give another "
            "(--name X), or mine the folder from before them"
        )
    ids = Ids.read(source)
    known = Known(source, ids)
    rows = _Rows(np.unique(known.positives.query), np.flatnonzero(ids.document_kept))
    if not len(rows.queries):
        raise UserError(f"{source}: no query with a positive is kept; there is nothing to mine for")
    if limits.max_rank > len(rows.documents):
        raise UserError(
            f"{source}: max_rank={limits.max_rank} is above the {len(rows.documents):,} documents kept"
        )
    texts = Texts(work.part("texts.arrow", lambda path: Texts.write(source / CORPUS, path)))
    queries = query_rows(source, rows.queries)
    searcher, fingerprint = _searcher(options, queries, DocumentRows(texts, rows.documents))
    score: ScorePairs = SearchScores(searcher, rows.queries, rows.documents)
    if options.cross_encoder:
        model = load_cross_encoder(options.cross_encoder, device=options.device)
        by_row = {int(row): text for row, (_, text) in zip(rows.queries, queries, strict=True)}
        score = CrossEncoderScores(model, by_row, texts, Path(options.cache))
        fingerprint |= {"cross_encoder": cross_encoder_identity(model)}
    taking = Taking(options.num_negatives, options.choice, options.seed)
    judge = Judge(ids, known, limits, taking, options.reference, score, name)
    table = _search(work, searcher, judge, rows)
    return {"encoder": fingerprint, "negatives_per_query": _per_query(table, len(rows.queries))}


class _Rows(NamedTuple):
    """Rows of the source's tables that are searched, ascending."""

    queries: np.ndarray
    documents: np.ndarray


def _limits(options: Parameters) -> Limits:
    limits = Limits(
        options.min_rank, options.max_rank, options.margin, options.percent, options.lowest, options.highest
    )
    limits.check()
    for key in ("num_negatives", "max_tokens"):
        value = getattr(options, key)
        if value is not None and value < 1:
            raise UserError(f"{key}={value} must be at least 1")
    return limits


def _name(options: Parameters) -> str:
    """Of the candidates' file; a scorer's name must fit a file's."""
    name = options.name or options.search + ("+cross" if options.cross_encoder else "")
    if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
        raise UserError(f"name={name!r}: only letters, digits and _ . + - (it becomes a file's name)")
    return name


def _searcher(
    options: Parameters, queries: list[Row], documents: DocumentRows
) -> tuple[Searcher, dict[str, Any]]:
    """What searches, and the fingerprint of the encoder that it searches with."""
    if options.search == "bm25":
        return Lexical(Bm25Index(text for _, text in documents), [text for _, text in queries]), {}
    if not options.encoder:
        raise UserError(f"search={options.search} needs --encoder FOLDER (or a hub name); bm25 needs none")
    query_side, document_side = load_sides(
        options.library,
        options.encoder,
        query_prompt=options.query_prompt,
        document_prompt=options.document_prompt,
        max_tokens=options.max_tokens,
        device=options.device,
    )
    cache = Path(options.cache)
    query_QD, of_queries = kept_embeddings(cache, "query", queries, query_side)
    document_ND, of_documents = kept_embeddings(cache, "document", documents, document_side)
    about = {"query": of_queries, "document": of_documents}
    dense = Dense(query_QD, document_ND, options.device)
    if options.search == "dense":
        return dense, about
    return Fused(dense, Lexical(Bm25Index(text for _, text in documents), [q for _, q in queries])), about


def _search(work: Work[Parameters], searcher: Searcher, judge: Judge, rows: _Rows) -> Path:
    """All candidates, a block of queries at a time; finished blocks are not searched again."""
    names = [f"found-{i:06d}.parquet" for i in range(-(-len(rows.queries) // QUERIES_PER_BLOCK))]
    done = next((i for i, name in enumerate(names) if not (work.parts / name).exists()), len(names))
    progress = Progress("mine: search", len(names), "blocks")
    progress.skip(done)
    found = (
        searcher.blocks(work.options.max_rank, done * QUERIES_PER_BLOCK) if done < len(names) else iter(())
    )
    for name, candidates in zip(names[done:], found, strict=True):
        make = partial(judge.table, candidates, rows.queries, rows.documents)
        work.table_part(name, SCHEMAS[CANDIDATES], make)
        progress.advance(1)
    out = work.out / CANDIDATES / f"{judge.name}.parquet"
    join([work.parts / name for name in names], out, SCHEMAS[CANDIDATES])
    return out


def _per_query(table: Path, num_queries: int) -> dict[str, int]:
    """How many queries have how many negatives: groups are ragged, and some may have none."""
    counts = Counter[str]()
    for block in blocks(table, ["query", "dropped_by"]):
        counts.update(kept(block)["query"].to_pylist())
    sizes = Counter(counts.values())
    sizes[0] = num_queries - len(counts)
    return {str(size): sizes[size] for size in sorted(sizes) if sizes[size]}


def _depends_on(options: Parameters) -> Mapping[str, Any]:
    """Hashes of the models' files: a folder's name says nothing of its weights."""
    paths = [Path(path) for path in (options.encoder, options.cross_encoder) if path]
    return {str(path): folder_hashes(path) for path in paths if path.is_dir()}


STEP = Step(Parameters, run, version=2, depends_on=_depends_on)
