"""An export that mteb evaluates as a plain SentenceTransformer gets the scores of our own evaluation."""

import mteb
import pytest
from sentence_transformers import SentenceTransformer

from codiemb.evaluation import builtin_tasks, evaluate, mteb_prompts
from codiemb.export import export_sentence_transformer
from tests.support import tiny

INSTRUCTIONS = {
    "DocsRetrieval": {"query": "find the documentation of this function"},
    "Retrieval": {"query": "number0 number1", "document": "oven"},
    "STS": {"query": "piano violin song apple"},
    "Classification": {"query": "which topic is this"},
}
KINDS = ("DocsRetrieval", "FramesRetrieval", "FramesSTS", "FramesClustering")


@pytest.fixture(scope="module")
def encoder(byte_level):
    """Its prompts are pooled, so that they move every score."""
    return tiny.tiny_encoder("bert", byte_level, pool_prompt=True)


def tasks(data):
    return [task for task in builtin_tasks(data, "test") if task.metadata.name in KINDS]


@pytest.fixture(scope="module")
def ours(encoder, builtin_data):
    return evaluate(encoder, tasks(builtin_data), INSTRUCTIONS, bm25=False).scores


def theirs(encoder, data, folder, by_task):
    folder = export_sentence_transformer(
        encoder, folder, query_instruction="another", instructions={"a_source": "third"}, by_task=by_task
    )
    model, chosen = SentenceTransformer(str(folder), device="cpu"), tasks(data)
    result = mteb.evaluate(model, chosen, cache=None, co2_tracker=False, show_progress_bar=False)
    return {task.task_name: task.get_score() for task in result.task_results}


def test_mteb_with_a_plain_sentence_transformer_gives_our_scores(encoder, ours, builtin_data, tmp_path):
    by_task = mteb_prompts(INSTRUCTIONS, tasks(builtin_data))
    assert theirs(encoder, builtin_data, tmp_path / "export", by_task) == pytest.approx(ours, abs=1e-6)
    without = theirs(encoder, builtin_data, tmp_path / "without", {})
    assert [name for name in KINDS if abs(without[name] - ours[name]) < 1e-4] == ["FramesClustering"]


def test_a_task_has_its_own_names_even_where_it_has_no_instruction(builtin_data):
    assert mteb_prompts(INSTRUCTIONS, tasks(builtin_data)) == {
        "Classification": ("which topic is this", "text"),
        "Retrieval-query": ("number0 number1", "query"),
        "Retrieval-document": ("oven", "document"),
        "STS": ("piano violin song apple", "text"),
        "DocsRetrieval-query": ("find the documentation of this function", "query"),
        "DocsRetrieval-document": ("", "document"),
        "FramesRetrieval-query": ("number0 number1", "query"),
        "FramesRetrieval-document": ("oven", "document"),
        "FramesSTS": ("piano violin song apple", "text"),
        "FramesClustering": ("", "text"),
    }
