"""BM25 as an mteb model: the lexical baseline beside every retrieval and reranking score."""

from collections.abc import Sequence
from typing import Any

import mteb
import numpy as np
from mteb.abstasks import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.types import CorpusDatasetType, QueryDatasetType, RetrievalOutputType, TopRankedDocumentsType

from codiemb.lexical.without_jax import bm25s
from codiemb.lexical.words import bm25_tokens

TASK_TYPES = ("Retrieval", "Reranking")  # the types that BM25 can be scored on


def bm25_score(task: AbsTask) -> float:
    """BM25's main score on a retrieval or reranking task, computed by mteb like any other model's."""
    if task.metadata.type not in TASK_TYPES:
        raise ValueError(
            f"{task.metadata.name} is {task.metadata.type}; BM25 is for {' and '.join(TASK_TYPES)}"
        )
    options: Any = {"batch_size": 1024, "show_progress_bar": False}
    result = mteb.evaluate(
        BM25(), task, cache=None, co2_tracker=False, encode_kwargs=options, show_progress_bar=False
    )
    return float(result.task_results[0].get_score())


class BM25:
    """mteb's SearchProtocol over bm25s (Lucene's variant, k1 1.5, b 0.75).

    mteb ships a BM25 too; it cuts Chinese into single characters only, needs a stemmer package for English,
    and when reranking loses candidates outside the corpus-wide top 1000.
    """

    mteb_model_meta = ModelMeta.create_empty({"name": "codiemb/bm25", "revision": bm25s.__version__})

    def index(self, corpus: CorpusDatasetType, **kwargs: Any) -> None:  # noqa: ANN401  mteb's signature
        """Build the index over title and text."""
        titles = corpus["title"] if "title" in corpus.column_names else [""] * len(corpus)
        documents = [f"{title or ''} {text}" for title, text in zip(titles, corpus["text"], strict=True)]
        self.ids: list[str] = list(corpus["id"])
        self.position = {key: index for index, key in enumerate(self.ids)}
        self.model = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        self.model.index([bm25_tokens(document) for document in documents], show_progress=False)

    def search(
        self,
        queries: QueryDatasetType,
        *,
        top_k: int,
        top_ranked: TopRankedDocumentsType | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> RetrievalOutputType:
        """Score the whole corpus, where score 0 is not found, or a query's candidates when reranking."""
        results: RetrievalOutputType = {}
        for key, text in zip(queries["id"], queries["text"], strict=True):
            scores_N = self._scores(text)
            if top_ranked is not None:
                results[key] = {name: float(scores_N[self.position[name]]) for name in top_ranked[key]}
            else:
                results[key] = {
                    self.ids[i]: float(scores_N[i]) for i in _top(scores_N, top_k) if scores_N[i] > 0
                }
        return results

    def _scores(self, query: str) -> np.ndarray:
        known = [token for token in bm25_tokens(query) if token in self.model.vocab_dict]
        return self.model.get_scores(known) if known else np.zeros(len(self.ids), dtype=np.float32)


def _top(scores_N: np.ndarray, k: int) -> Sequence[int]:
    k = min(k, len(scores_N))
    return np.argpartition(-scores_N, k - 1)[:k].tolist()
