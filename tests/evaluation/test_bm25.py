"""The lexical baseline is BM25, in Chinese too."""

import math
from pathlib import Path

import pytest
from datasets import Dataset

from codiemb.evaluation import bm25_score, builtin_tasks, evaluate
from codiemb.evaluation.bm25 import BM25
from codiemb.lexical.words import bm25_tokens
from tests.support.evaluation_fakes import BagOfWords


def test_words_and_pairs_of_characters():
    assert bm25_tokens("Read_File v2: ＯＫ!") == ["read", "file", "v2", "ok"]
    assert bm25_tokens("显存GPU不够") == ["显", "存", "显存", "gpu", "不", "够", "不够"]
    assert bm25_tokens("  …  ") == []


def test_scores_are_lucenes_bm25():
    documents = [["a", "a", "b"], ["b", "c"], ["c", "d", "e", "f"]]
    model = BM25()
    model.index(Dataset.from_dict({"id": ["0", "1", "2"], "text": [" ".join(words) for words in documents]}))
    found = model.search(Dataset.from_dict({"id": ["q"], "text": ["a c z"]}), top_k=10)["q"]

    def score(words: list[str]) -> float:
        total = 0.0
        for term in ("a", "c"):
            num_holding, count = sum(term in other for other in documents), words.count(term)
            idf = math.log(1 + (3 - num_holding + 0.5) / (num_holding + 0.5))
            total += idf * count / (count + 1.5 * (0.25 + 0.75 * len(words) / 3))
        return total

    assert found == {str(i): pytest.approx(score(words), rel=1e-5) for i, words in enumerate(documents)}


def test_nothing_in_common_finds_nothing_and_reranking_keeps_all_candidates():
    model = BM25()
    model.index(Dataset.from_dict({"id": ["0", "1"], "text": ["x", "y"]}))
    queries = Dataset.from_dict({"id": ["q"], "text": ["？"]})
    assert model.search(queries, top_k=10) == {"q": {}}
    assert model.search(queries, top_k=10, top_ranked={"q": ["1"]}) == {"q": {"1": 0.0}}


def test_retrieval_and_reranking_rows_show_bm25(builtin_data: Path):
    tasks = builtin_tasks(builtin_data, "test")[:4]
    evaluation = evaluate(BagOfWords(), tasks, {})
    assert [result.bm25 is not None for result in evaluation.results] == [True, True, True, False]
    assert evaluation.results[0].bm25 == bm25_score(tasks[0]) > 0.5
    assert evaluate(BagOfWords(), tasks[:1], {}, bm25=False).results[0].bm25 is None
    with pytest.raises(ValueError, match="FramesSTS is STS"):
        bm25_score(tasks[3])
