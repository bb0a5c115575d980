"""Who gets which instruction, and that the record says so."""

from pathlib import Path

import pytest

from codiemb.errors import UserError
from codiemb.evaluation import builtin_tasks, evaluate
from tests.support.evaluation_fakes import BagOfWords, read_rows

INSTRUCTIONS = {
    "Retrieval": {"query": "find"},
    "DocsRetrieval": {"query": "find docs"},
    "Reranking": {"query": "rerank", "document": "candidate"},
    "STS": {"query": "compare"},
    "PairClassification": {"query": "pair"},
    "Classification": {"query": "classify"},
}
EXPECTED = {
    "DocsRetrieval": {"query": "find docs", "document": ""},
    "FramesRetrieval": {"query": "find", "document": ""},
    "FramesReranking": {"query": "rerank", "document": "candidate"},
    "FramesSTS": {"text": "compare"},
    "FramesPairClassification": {"text": "pair"},
    "FramesClassification": {"text": "classify"},
    "FramesClustering": {"text": ""},
}


def test_each_text_gets_the_instruction_that_is_recorded(builtin_data: Path):
    for task in builtin_tasks(builtin_data, "test"):
        encoder, name = BagOfWords(), task.metadata.name
        (result,) = evaluate(encoder, [task], INSTRUCTIONS, bm25=False).results
        assert result.prompts == EXPECTED[name]
        assert {instruction for instruction, _ in encoder.calls} == set(EXPECTED[name].values())
        retrieves = task.metadata.type in ("Retrieval", "Reranking")
        assert set(encoder.sides) == ({"query", "document"} if retrieves else {"text"})
        assert set(result.prefix.values()) == {None}  # this encoder does not say
        assert result.num_texts == sum(len(texts) for _, texts in encoder.calls)


def test_only_queries_of_a_retrieval_task_get_the_instruction(builtin_data: Path):
    encoder, folder = BagOfWords(), builtin_data / "eval/test/DocsRetrieval"
    evaluate(encoder, builtin_tasks(builtin_data, "test")[:1], INSTRUCTIONS)
    queries, documents = (
        tuple(row["text"] for row in read_rows(folder / f"{part}.jsonl")) for part in ("queries", "corpus")
    )
    assert encoder.calls == [("find docs", queries), ("", documents)]


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        ({"Retreival": {"query": "x"}}, "did you mean Retrieval"),
        ({"DocsRetrieva": {"query": "x"}}, "did you mean DocsRetrieval"),
        ({"docsretrieval": {"query": "x"}}, "did you mean DocsRetrieval"),  # case matters to mteb, too
        ({"STS": {"passage": "x"}}, r"instructions.STS: no side 'passage'"),
        ({"STS": {"Query": "x"}}, r"instructions.STS: no side 'Query'"),
    ],
)
def test_a_key_that_cannot_match_is_an_error(instructions: dict, message: str, builtin_data: Path):
    with pytest.raises(UserError, match=message):
        evaluate(BagOfWords(), builtin_tasks(builtin_data, "test")[:1], instructions)


def test_instructions_of_other_mteb_tasks_are_allowed(builtin_data: Path):
    assert evaluate(
        BagOfWords(), builtin_tasks(builtin_data, "test")[:1], {"T2Retrieval": {"query": "x"}}
    ).results
