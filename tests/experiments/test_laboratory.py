"""The laboratory: its data, its questions, and which runs a command makes."""

import json
import re

import pytest

from codiemb.data import read_records
from experiments.laboratory import data, run
from experiments.laboratory.arms import ARMS
from experiments.laboratory.material import ENGLISH, FRAMES, REAL
from experiments.laboratory.question import SEEDS
from experiments.laboratory.questions import FUSED, QUESTIONS, by_name, own_steps, owner, run_folder
from tests.support.paths import CONF


def ir(number, num_positives=1):
    texts = [["", "", f"ir {number} says {k}"] for k in range(num_positives)]
    return {
        "task_type": "ir",
        "query": ["find", "", f"ir {number}"],
        "positives": texts,
        "negatives": [["", "", f"not {number}"]],
        "positive_scores": [1.0] * num_positives,
        "negative_scores": [0.0],
    }


def sts(number, score):
    pair = {"query": ["judge", "", f"sts {number}"], "positives": [["judge", "", f"sts {number}, too"]]}
    return {"task_type": "sts", **pair, "positive_scores": [score], "negatives": []}


# Data


@pytest.fixture
def lab_data(tmp_path):
    builtin = tmp_path / "builtin"
    builtin.mkdir()
    kinds = {"frames_ir": [ir(0), ir(1, 4), ir(2, 2)], "frames_sts": [sts(0, 0.2), sts(1, 0.9)]}
    for name, rows in kinds.items():
        (builtin / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    folder = tmp_path / "laboratory"
    files = {"ir": (builtin / "frames_ir.jsonl",), "sts": (builtin / "frames_sts.jsonl",)}
    data.prepare(FRAMES._replace(folder=folder, **files))
    return {path.stem: list(read_records(path)) for path in folder.glob("*.jsonl")}


def test_the_files_are_those_that_the_arms_name(lab_data):
    shared = (CONF / "experiment/laboratory.yaml").read_text("utf-8")
    overrides = "\n".join([shared, *(override for arm in ARMS.values() for override in arm)])
    assert set(re.findall(r"data/laboratory/(\w+)\.jsonl", overrides)) == lab_data.keys()


def test_graded_ir_records_have_1_for_positives_and_0_for_hard_negatives(lab_data):
    record = lab_data["ir_graded"][1]
    assert (record.task, record.positive_scores, record.negative_scores) == ("sts", [1.0] * 4, [0.0])
    assert record.positives == lab_data["ir"][1].positives


def test_mixed_files_hold_graded_and_ungraded_records_as_many_of_each(lab_data):
    """There are three IR records and two pairs: the mixed files take two of each."""
    assert {record.task for record in lab_data["mixed"]} == {"mixed"}
    assert [record.positive_scores for record in lab_data["mixed"]] == [[], [], [0.2], [0.9]]
    both = lab_data["ir"][:2] + lab_data["sts"]
    assert [record.positives for record in lab_data["mixed"]] == [record.positives for record in both]
    graded = lab_data["ir_graded"][:2] + lab_data["sts"]
    assert [r.positives for r in lab_data["mixed_graded"]] == [r.positives for r in graded]


def test_positive_pairs_are_those_above_the_threshold_with_as_many_ir_records(lab_data):
    assert [record.positive_scores for record in lab_data["sts_positives"]] == [[0.9]]
    assert [record.query.text for record in lab_data["mixed_positives"]] == ["ir 0", "sts 1"]


def test_duplicates_share_one_positive_among_the_texts_that_say_the_same(lab_data):
    records = lab_data["duplicates"]
    assert [r.query.text for r in records] == ["ir 1", "ir 1 says 1", "ir 1 says 2", "ir 1 says 3"]
    assert {tuple(r.positives[0]) for r in records} == {("", "ir 1 says 0")}


# Questions


def test_every_arm_is_asked_for_and_once_on_a_model_and_a_side():
    asked = [
        (arm, question.overrides, question.split, question.material.folder, question.outside)
        for question in QUESTIONS
        for arm in question.arms
    ]
    assert {arm for arm, *_ in asked} == set(ARMS)
    assert len(asked) == len(set(asked))


def test_every_run_has_a_folder_of_its_own():
    runs = [
        (question.name, arm, seed)
        for question in QUESTIONS
        for arm in question.arms
        for seed in question.seeds
    ]
    assert len({run_folder(*each) for each in runs}) == len(runs)
    assert str(run_folder("transfer", "joint", SEEDS[2])) == "multirun/laboratory/transfer/joint/2"


def test_the_fusion_reads_the_runs_of_its_own_seed():
    commands = [step.command() for step in own_steps(by_name("fusion")) if "stage=fuse" in step.overrides]
    for command in commands:
        (seed,) = [int(each.removeprefix("seed=")) for each in command if each.startswith("seed=")]
        (checkpoints,) = [each for each in command if each.startswith("fuse.checkpoints=")]
        for question, arm in FUSED:
            assert str(run_folder(question, arm, seed)) in checkpoints
        assert f"fuse.base=multirun/laboratory/fusion_start/{SEEDS.index(seed)}" in command


def test_contrasts_and_borrowed_arms_exist():
    for question in QUESTIONS:
        borrowed = {arm for name, arm in question.borrowed if arm in by_name(name).arms}
        assert len(borrowed) == len(question.borrowed)
        for contrast in question.contrasts:
            assert contrast.weights.keys() <= borrowed | set(question.arms)
            assert sum(contrast.weights.values()) == 0


def test_an_arm_of_real_text_differs_from_that_of_frames_in_its_texts_alone():
    for material in (REAL, ENGLISH):
        for arm, overrides in ARMS.items():
            there = material.overrides(overrides)
            assert not any("data/laboratory/" in each for each in there)
            back = [each.replace(str(material.folder), str(FRAMES.folder)) for each in there]
            left = [
                each for each in back if not each.startswith(("task=", "task.")) and each not in overrides
            ]
            default = "data.files=[data/laboratory/ir.jsonl,data/laboratory/sts.jsonl]"
            assert left == ([] if any(each.startswith("data.files=") for each in overrides) else [default]), (
                arm
            )
            assert set(overrides) <= set(back)


def test_questions_of_real_text_are_asked_on_dev_and_borrow_from_each_other():
    for question in QUESTIONS:
        if question.material is not FRAMES:
            command = question.step(question.arms[0]).command()
            assert "task.split=dev" in command
            owners = [owner(question, arm) for arm in question.contrasts[0].weights]
            assert all(each.material is question.material for each in owners)


def test_a_set_of_two_files_has_as_many_of_each_in_turns(tmp_path):
    for name, num in (("a", 3), ("b", 2)):
        lines = [json.dumps(ir(f"{name}{number}")) + "\n" for number in range(num)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    (tmp_path / "c.jsonl").write_text(json.dumps(sts(1, 0.9)) + "\n", "utf-8")
    paths = {"ir": (tmp_path / "a.jsonl", tmp_path / "b.jsonl"), "sts": (tmp_path / "c.jsonl",)}
    data.prepare(REAL._replace(folder=tmp_path / "out", **paths))
    queries = [record.query.text for record in read_records(tmp_path / "out/ir.jsonl")]
    assert queries == ["ir a0", "ir b0", "ir a1", "ir b1"]
    assert [record.task for record in read_records(tmp_path / "out/mixed.jsonl")] == ["mixed"] * 2


# Runs


def test_a_question_whose_model_is_not_there_is_left_out_unless_it_is_asked_by_name(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    question = by_name("minilm")
    assert not run.can_be_asked(question, named=False)
    assert capsys.readouterr().out == "minilm: left out, there is no data/minilm\n"
    with pytest.raises(SystemExit, match="question minilm needs data/minilm"):
        run.can_be_asked(question, named=True)
    (tmp_path / "data/minilm").mkdir(parents=True)
    assert run.can_be_asked(question, named=True)
    with pytest.raises(SystemExit, match="needs data/real"):
        run.can_be_asked(by_name("real_minilm_pareto"), named=True)


def test_a_page_is_written_once_all_arms_of_its_question_have_finished_borrowed_ones_too(monkeypatch):
    finished, written = [], []
    monkeypatch.setattr(run.Step, "has_finished", lambda step: step.name in finished)
    monkeypatch.setattr(run, "write_page", lambda question: written.append((question.name, len(finished))))

    def work(steps, after):
        for step in steps:
            finished.append(step.name)
            after(step)

    run.run([by_name("instructions"), by_name("masking")], work)
    assert finished[:2] == ["transfer/joint", "transfer/mixed"]
    assert written == [("instructions", 4), ("masking", 6)]
    run.run([by_name("pareto"), by_name("instructions")], work)
    assert len(finished[6:]) == len({*finished[6:]}) == 8  # what both borrow runs once
    finished.remove("transfer/joint")
    finished.remove("transfer/joint")
    with pytest.raises(SystemExit, match="run first: transfer"):
        run.run([by_name("fusion")], work)
