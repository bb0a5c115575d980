"""A run that was stopped goes on where it was, if nothing that a score depends on is another."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from codiemb.config.task import earlier_results
from codiemb.errors import UserError
from codiemb.evaluation import Evaluation, Evaluator, MtebEncoder, Setup, builtin_tasks
from codiemb.evaluation.kept import kept_results
from codiemb.text_encoder import TextEncoder, settings_of
from tests.evaluation.test_instructions import INSTRUCTIONS
from tests.support.evaluation_fakes import BagOfWords, Stating, write_rows

NAMES = ["FramesRetrieval", "FramesReranking", "FramesSTS"]
SEED = 3


def evaluator(data: Path) -> Evaluator:
    return Evaluator(builtin_tasks(data, "test")[1:4], INSTRUCTIONS)


@pytest.fixture(scope="module")
def whole(builtin_data: Path) -> Evaluation:
    return evaluator(builtin_data).run(Stating(), seed=SEED)


def but_for_times(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, results=tuple(replace(row, seconds=0.0) for row in evaluation.results))


def kept(
    data: Path,
    earlier: Evaluation,
    encoder: TextEncoder,
    instructions: dict = INSTRUCTIONS,
    *,
    with_bm25: bool = True,
) -> tuple[list[str], list[str]]:
    """Whose results still hold, and what is said of the others."""
    said: list[str] = []
    found = kept_results(
        earlier,
        Setup.now(settings_of(encoder), SEED),
        evaluator(data).tasks,
        MtebEncoder(encoder, instructions),
        with_bm25=with_bm25,
        report=said.append,
    )
    return list(found), [line for line in said if not line.startswith("kept: ")]


def test_a_run_stopped_in_its_third_task_ends_as_one_that_was_not(builtin_data: Path, whole: Evaluation):
    saved: list[Evaluation] = []
    with pytest.raises(KeyboardInterrupt):
        evaluator(builtin_data).run(Stating(stop_at=4), seed=SEED, save=saved.append)
    left = Evaluation.from_json(saved[-1].to_json())
    assert list(left.scores) == NAMES[:2]
    assert left.pending == (NAMES[2],)
    encoder = Stating()
    result = evaluator(builtin_data).run(encoder, seed=SEED, earlier=left)
    assert len(encoder.calls) == 2  # the two sides of the pairs
    assert but_for_times(result) == but_for_times(whole)
    assert result.results[:2] == left.results


def test_a_kept_result_of_a_later_task_is_in_what_is_saved_before_it(builtin_data: Path, whole: Evaluation):
    saved: list[Evaluation] = []
    left = replace(whole, results=whole.results[:1] + whole.results[2:])
    evaluator(builtin_data).run(Stating(), seed=SEED, earlier=left, save=saved.append)
    assert [list(each.scores) for each in saved] == [NAMES]


@pytest.mark.parametrize(
    ("encoder", "says"),
    [
        (Stating(weights="2a"), 'settings.weights was "1f", is "2a"'),
        (BagOfWords(), "this encoder does not state its settings"),
    ],
)
def test_another_encoder_makes_every_result_anew(builtin_data: Path, whole: Evaluation, encoder, says: str):
    assert kept(builtin_data, whole, encoder) == (
        [],
        [f"the 3 results that are there are made again: {says}"],
    )


def test_other_versions_and_another_seed_make_every_result_anew(builtin_data: Path, whole: Evaluation):
    setup = replace(whole.setup, versions=whole.setup.versions | {"torch": "1.0"}, seed=4)
    names, said = kept(builtin_data, replace(whole, setup=setup), Stating())
    assert names == []
    assert 'versions.torch was "1.0", is' in said[0]
    assert "seed was 4, is 3" in said[0]


def test_another_template_or_instruction_is_another_score(builtin_data: Path, whole: Evaluation):
    names, said = kept(builtin_data, whole, Stating(template="{}; "))
    assert names == []
    assert said[2] == 'FramesSTS is run again: prefix.text was "compare: ", is "compare; "'
    names, said = kept(builtin_data, whole, Stating(), INSTRUCTIONS | {"STS": {"query": "how equal"}})
    assert names == NAMES[:2]
    assert said[0].startswith('FramesSTS is run again: prompts.text was "compare", is "how equal"; prefix.')


def test_other_data_is_another_score(builtin_data: Path, whole: Evaluation, tmp_path: Path):
    shutil.copytree(builtin_data, tmp_path, dirs_exist_ok=True)
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i % 3}", "score": i % 5 / 4} for i in range(9)]
    write_rows(tmp_path / "eval/test/FramesSTS/pairs.jsonl", rows)
    names, said = kept(tmp_path, whole, Stating())
    assert names == NAMES[:2]
    assert said[0].startswith("FramesSTS is run again: revision was ")


def test_a_missing_baseline_is_a_reason_and_one_not_asked_for_goes(builtin_data: Path, whole: Evaluation):
    without = replace(whole, results=tuple(replace(row, bm25=None) for row in whole.results))
    assert kept(builtin_data, without, Stating()) == (
        ["FramesSTS"],
        [f"{name} is run again: it has no BM25 score" for name in NAMES[:2]],
    )
    assert kept(builtin_data, whole, Stating(), with_bm25=False) == (NAMES, [])


def test_results_are_neither_overwritten_nor_dropped(builtin_data: Path, whole: Evaluation, tmp_path: Path):
    file, now = tmp_path / "results.json", evaluator(builtin_data)
    assert earlier_results(file, now, resume=False) is None
    file.write_text(whole.to_json(), "utf-8")
    assert earlier_results(file, now, resume=True) == whole
    with pytest.raises(UserError, match=r"results\.json is there already: resume=true goes on"):
        earlier_results(file, now, resume=False)
    other = Evaluator(builtin_tasks(builtin_data, "test")[2:3], {})
    with pytest.raises(UserError, match="holds results of FramesRetrieval, FramesSTS, which this"):
        earlier_results(file, other, resume=True)


def test_the_record_states_the_literal_prefix_of_each_side(whole: Evaluation):
    rows = {row["task"]: row["prefix"] for row in json.loads(whole.to_json())["results"]}
    assert rows["FramesReranking"] == {"query": "rerank: ", "document": "candidate: "}
    assert rows["FramesSTS"] == {"text": "compare: "}
    assert whole.model_revision == "1f"
    assert {"torch", "transformers", "mteb", "codiemb"} <= whole.setup.versions.keys()
