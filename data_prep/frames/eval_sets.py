"""The evaluation sets of one split: six task types, texts without instructions."""

import itertools
from collections.abc import Callable
from typing import Any

from data_prep.frames.meaning import Meaning
from data_prep.frames.sampler import MAX_TRIES, Sampler
from data_prep.frames.sizes import EvalSizes
from data_prep.frames.train_sets import OTHER, scored_pairs

Rows = list[dict[str, Any]]
Files = dict[str, Rows]
NUM_CANDIDATES = 10
NUM_DISTRACTORS = 3  # per query, one thing off


class _Corpus:
    """Documents with unique texts. Relevance is equality of meaning, over the whole corpus."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.by_meaning: dict[Meaning, list[str]] = {}
        self.by_text: dict[str, str | None] = {}  # None for queries, which may not be documents

    def reserve(self, query: str) -> None:
        """Keep a query's exact words out of the corpus."""
        self.by_text[query] = None

    def add(self, meaning: Meaning, text: str | None) -> str | None:
        """Add a document unless it is there; return its id, or None if the text is missing or a query's."""
        if text is None or text in self.by_text:
            return self.by_text.get(text or "")
        name = f"d{len(self.rows)}"
        self.rows.append({"id": name, "text": text})
        self.by_meaning.setdefault(meaning, []).append(name)
        self.by_text[text] = name
        return name


def retrieval(sampler: Sampler, num_queries: int, num_documents: int) -> Files:
    """Build a corpus where each query has 1-3 documents of its meaning among others one thing off."""
    corpus = _Corpus()
    queries: Rows = []
    asked: dict[Meaning, str] = {}
    while len(queries) < num_queries:
        meaning, language, query, relevant = _question(sampler)
        if meaning in asked or not relevant or query in corpus.by_text:
            continue
        corpus.reserve(query)
        asked[meaning] = f"q{len(queries)}"
        queries.append({"id": asked[meaning], "text": query})
        for text in relevant:
            corpus.add(meaning, text)
        for _ in range(NUM_DISTRACTORS):
            _add_distractor(sampler, corpus, meaning, language)
    while len(corpus.rows) < num_documents:
        kind = sampler.rng.choice(("short", "passage"))
        meaning = sampler.meaning()
        corpus.add(meaning, sampler.text(meaning, sampler.rng.choice(("zh", "en")), kind))
    qrels = [
        {"query_id": query, "corpus_id": document, "score": 1}
        for meaning, query in asked.items()
        for document in corpus.by_meaning[meaning]
    ]
    return {"corpus": corpus.rows, "queries": queries, "qrels": qrels}


def _question(sampler: Sampler) -> tuple[Meaning, str, str, list[str]]:
    """Draw a meaning, a query in one language, and 1-3 other texts of it, the first in that language."""
    rng = sampler.rng
    meaning, language = sampler.meaning(), rng.choice(("zh", "en"))
    query = sampler.must_text(meaning, language)
    kinds = rng.sample(("passage", "short"), 2)
    others = [(language, kinds[1]), (OTHER[language], kinds[0]), (OTHER[language], kinds[1])]
    texts: list[str] = []
    for form in [(language, kinds[0]), *rng.sample(others, 3)][: rng.choice((1, 1, 2, 3))]:
        text = sampler.text(meaning, *form, unlike=[query, *texts])
        texts += [text] if text else []
    return meaning, language, query, texts


def _add_distractor(sampler: Sampler, corpus: _Corpus, meaning: Meaning, language: str) -> str | None:
    """Add a text one thing off, mostly in the query's language; return its id, or None if it may not be."""
    spoken = language if sampler.rng.random() < 0.7 else OTHER[language]
    other = sampler.one_off(meaning)
    kind = sampler.rng.choice(("short", "passage"))
    return corpus.add(other, sampler.text(other, spoken, kind))


def reranking(sampler: Sampler, num_queries: int) -> Files:
    """Build queries with 10 candidates each: 1-3 have the query's meaning, the others come close."""
    corpus = _Corpus()
    queries: Rows = []
    qrels: Rows = []
    top_ranked: Rows = []
    while len(queries) < num_queries:
        meaning, language, query, relevant = _question(sampler)
        if meaning in corpus.by_meaning or not relevant or query in corpus.by_text:
            continue
        corpus.reserve(query)
        good = [added for text in relevant if (added := corpus.add(meaning, text))]
        candidates = list(good)
        for _ in range(MAX_TRIES):
            added = _add_distractor(sampler, corpus, meaning, language)
            candidates += [added] if added and added not in candidates else []
            if len(candidates) == NUM_CANDIDATES:
                break
        else:
            continue
        sampler.rng.shuffle(candidates)
        name = f"q{len(queries)}"
        queries.append({"id": name, "text": query})
        qrels += [{"query_id": name, "corpus_id": document, "score": 1} for document in good]
        top_ranked.append({"query_id": name, "corpus_ids": candidates})
    return {"corpus": corpus.rows, "queries": queries, "qrels": qrels, "top_ranked": top_ranked}


def sts(sampler: Sampler, count: int) -> Files:
    """Build pairs with a gold similarity spread over [0, 1]."""
    pairs = scored_pairs(sampler, count)
    return {"pairs": [{"sentence1": p.first, "sentence2": p.second, "score": p.score} for p in pairs]}


def pair_classification(sampler: Sampler, count: int) -> Files:
    """Build as many pairs of one meaning (1) as pairs that differ in one thing (0)."""
    rows: Rows = []
    while len(rows) < count:
        label = 1 - len(rows) % 2
        meaning, language = sampler.meaning(), sampler.rng.choice(("zh", "en"))
        other = meaning if label else sampler.one_off(meaning)
        first = sampler.must_text(meaning, language)
        spoken = OTHER[language] if sampler.rng.random() < 0.15 else language
        second = sampler.text(other, spoken, unlike=[first])
        if second is not None:
            rows.append({"sentence1": first, "sentence2": second, "label": label})
    return {"pairs": rows}


def labelled(sampler: Sampler, count: int, label_of: Callable[[Meaning], str]) -> Rows:
    """Return new texts with labels, frame by frame in turn; one with nothing new to say is passed over."""
    rows: Rows = []
    frames = sampler.rng.sample(sampler.frames, len(sampler.frames))
    for frame in itertools.cycle(frames):
        if len(rows) == count:
            break
        meaning = sampler.meaning(frame)
        text = sampler.text(meaning, sampler.rng.choice(("zh", "en")), avoid=sampler.used_texts)
        if text is not None:
            rows.append({"text": text, "label": label_of(meaning)})
    sampler.rng.shuffle(rows)
    return rows


def build_eval(make: Callable[[str, int | None], Sampler], sizes: EvalSizes) -> dict[str, Files]:
    """Build all sets of a split; `make(name, half)` gives each its own sampler."""

    def intent(meaning: Meaning) -> str:
        return meaning.frame.name

    def domain(meaning: Meaning) -> str:
        return meaning.frame.domain

    sides = {
        side: labelled(make(f"classification-{side}", half), sizes.classification, intent)
        for half, side in enumerate(("train", "test"))
    }
    texts = labelled(make("clustering", None), sizes.clustering, domain)
    return {
        "FramesRetrieval": retrieval(
            make("retrieval", None), sizes.retrieval_queries, sizes.retrieval_documents
        ),
        "FramesReranking": reranking(make("reranking", None), sizes.reranking_queries),
        "FramesSTS": sts(make("sts", None), sizes.sts_pairs),
        "FramesPairClassification": pair_classification(
            make("pair_classification", None), sizes.classification_pairs
        ),
        "FramesClassification": sides,
        "FramesClustering": {"texts": texts},
    }
