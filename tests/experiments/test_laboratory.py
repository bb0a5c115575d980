"""The laboratory: its data, its commands, and its pages from a made-up sweep."""

import json
import re
import shlex

import pytest

from codiemb.data import read_records
from experiments.laboratory import data, pages, results, run, sequential
from experiments.laboratory.arms import ARMS, EXPERIMENT
from experiments.laboratory.material import ENGLISH, FRAMES, REAL
from experiments.laboratory.questions import (
    FUSED,
    QUESTIONS,
    SEEDS,
    Contrast,
    by_name,
    run_folder,
)
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
        (arm, question.overrides, question.split, question.material.folder)
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
    commands = [step.command() for step in by_name("fusion").steps() if "stage=fuse" in step.overrides]
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
            owners = map(question.owner, question.contrasts[0].weights)
            assert all(owner.material is question.material for owner in owners)


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


# Pages


def fake_run(root, question, arm, seed, score, *more):
    """What a job of a sweep leaves, as far as a page reads it."""
    if seed in by_name(question).seeds:
        job = root / run_folder(question, arm, seed)
    else:
        job = root / by_name(question).more(arm, seed).folder / "0"
    (job / ".hydra").mkdir(parents=True)
    overrides = [EXPERIMENT, *ARMS[arm], f"seed={seed}", *more]
    (job / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides), "utf-8")
    tasks = by_name(question).material.tasks
    scores = dict.fromkeys(tasks, score) | {tasks[-2]: score / 2}
    (job / "result.json").write_text(json.dumps({"scores": scores, "seconds": 60.0}), "utf-8")


@pytest.fixture
def swept(tmp_path):
    """`masking` is done: 2 points between its arms with every seed; one seed of `joint` is missing."""
    for seed in SEEDS:
        fake_run(tmp_path, "masking", "duplicates_masked", seed, 0.5 + 0.01 * seed)
        fake_run(tmp_path, "masking", "duplicates_unmasked", seed, 0.48 + 0.01 * seed + 1e-4 * (seed == 1))
        if seed > 1:
            fake_run(tmp_path, "transfer", "joint", seed, 0.5)
    return tmp_path


def test_a_page_has_the_command_the_scores_and_the_paired_difference(swept):
    assert pages.write_page(by_name("masking"), swept, swept)
    page = (swept / "masking.md").read_text("utf-8")
    masked, unmasked = re.findall(r"run_train.py -m experiment=laboratory .* seed=1,2,3 .*", page)
    assert "hydra.sweep.dir=multirun/laboratory/masking/duplicates_masked " in masked
    assert "mask_false_negatives=false seed=1,2,3" in unmasked
    row = (
        "| `duplicates_masked` | 3 | 52.00 ± 1.00 | 52.00 ± 1.00 | 26.00 ± 0.50 | 52.00 ± 1.00 | 52.00 ± 1.00"
    )
    assert f"{row} | 39.00 ± 0.75 | 45.50 ± 0.88 |" in page
    assert "| duplicates_masked - duplicates_unmasked | +2.00 ± 0.00 * (0.02) |" in page
    assert "6 runs of 60 s (median), 6 min in sum" in page
    assert (swept / "masking.png").stat().st_size > 5_000


PUBLISHED = [question for question in QUESTIONS if (pages.FOLDER / f"{question.name}.md").is_file()]


def test_every_question_has_a_page_or_the_readme_says_that_it_was_not_run():
    (line,) = re.findall(
        r"Not run yet: (.*?)\.\s", (pages.FOLDER / "README.md").read_text("utf-8"), re.DOTALL
    )
    assert set(re.findall(r"`(\w+)`", line)) == {question.name for question in QUESTIONS} - {
        question.name for question in PUBLISHED
    }


@pytest.mark.parametrize("question", PUBLISHED, ids=[question.name for question in PUBLISHED])
def test_the_published_page_names_the_commands_that_run_now(question):
    page = (pages.FOLDER / f"{question.name}.md").read_text("utf-8")
    told = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("    python run_train.py")]
    assert told == [step.command() for step in question.steps()]


def test_the_conclusion_survives_writing_the_page_again(swept):
    pages.write_page(by_name("masking"), swept, swept)
    page = swept / "masking.md"
    assert page.read_text("utf-8").endswith("## Conclusion\n\nNot written yet.\n")
    written = page.read_text("utf-8").replace("Not written yet.", "It helps.\n\nA little.")
    page.write_text(written, "utf-8")
    pages.write_page(by_name("masking"), swept, swept)
    assert page.read_text("utf-8") == written


def test_fewer_than_three_seeds_are_not_published(swept):
    assert not pages.write_page(by_name("transfer"), swept, swept)
    assert not (swept / "transfer.md").exists()
    fake_run(swept, "transfer", "joint", 1, 0.5)
    assert pages.write_page(by_name("transfer"), swept, swept)
    page = (swept / "transfer.md").read_text("utf-8")
    assert "left out: ir_only, sts_only, joint_infonce" in page


def run_of(arm, seed, score, split="test"):
    return results.Run(arm, seed, results.with_means(dict.fromkeys(FRAMES.tasks, score)), 1.0, split)


def test_a_difference_is_beyond_noise_only_if_student_says_so():
    def found(*values):
        arms = {"a": [run_of("a", seed, value) for seed, value in enumerate(values, 1)]}
        arms["b"] = [run_of("b", seed, 0.0) for seed in range(1, len(values) + 1)]
        return results.difference(Contrast("", {"a": 1, "b": -1}), arms, "IR")

    near = found(0.01, 0.02, 0.03)
    assert near.mean == pytest.approx(2)
    assert near.error == pytest.approx(3**-0.5)  # sd 1 over 3 seeds: 3.5 standard errors are not 4.3
    assert not near.beyond_noise
    assert near.smallest == pytest.approx(
        (4.3027 + 1.0607) * 3**-0.5, rel=1e-4
    )  # t with 2 degrees of freedom
    assert found(0.02, 0.03, 0.04).beyond_noise
    assert found(0.01, 0.02) is None


def test_the_choice_on_dev_is_reported_with_its_test_score():
    runs = [run_of("alone, x", 1, 0.5, "dev"), run_of("alone, y", 1, 0.6, "dev")]
    runs += [run_of("alone, x", 1, 0.9), run_of("alone, y", 1, 0.7), run_of("soup", 1, 0.8)]
    arms = results.by_arm(results.chosen_on_dev(runs))
    assert [run.scores["mean"] for run in arms["alone, best on dev"]] == [pytest.approx(70)]
    assert len(arms["alone, x"]) == 1


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


def test_a_page_is_written_once_all_arms_of_its_question_have_finished(monkeypatch):
    finished, written = set(), []
    monkeypatch.setattr(run.Step, "has_finished", lambda step: step.name in finished)
    monkeypatch.setattr(run, "write_page", lambda question: written.append((question.name, len(finished))))

    def work(steps, after):
        for step in steps:
            finished.add(step.name)
            after(step)

    run.run([by_name("instructions"), by_name("masking")], work)
    assert written == [("instructions", 2), ("masking", 4)]
    with pytest.raises(SystemExit, match="run first: pareto transfer"):
        run.run([by_name("fusion")], work)


def test_a_card_runs_the_same_arms_several_at_once_and_the_page_says_so(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "run_steps", lambda steps, after, at_once: seen.extend([*steps, at_once]))
    (step,) = by_name("masking").steps()[:1]
    run.run_on([step], accelerator="gpu", at_once=8)
    assert seen == [step._replace(overrides=[*step.overrides, "trainer.accelerator=gpu"]), 8]
    for seed in SEEDS:
        fake_run(tmp_path, "masking", "duplicates_masked", seed, 0.5, "trainer.accelerator=gpu")
        fake_run(tmp_path, "masking", "duplicates_unmasked", seed, 0.5)
    assert pages.write_page(by_name("masking"), tmp_path, tmp_path)
    page = (tmp_path / "masking.md").read_text("utf-8")
    assert "3 of them with trainer.accelerator=gpu, several at once." in page


def test_a_page_of_real_text_has_its_own_tasks(tmp_path):
    for seed in SEEDS:
        for arm in ("ir_only", "joint"):
            fake_run(tmp_path, "real_minilm_transfer", arm, seed, 0.5 + 0.01 * seed)
    assert pages.write_page(by_name("real_minilm_transfer"), tmp_path, tmp_path)
    page = (tmp_path / "real_minilm_transfer.md").read_text("utf-8")
    assert "| arm | seeds | GlossRetrieval | DiagnosisSTS | DiagnosisPairs | IR | STS | mean |" in page
    assert "all-MiniLM-L6-v2" in page
    assert "dev side" in page
    # IR is the one task of it; STS the mean of a task at half of the score and one at the score
    assert "| `joint` | 3 | 52.00 ± 1.00 | 26.00 ± 0.50 | 52.00 ± 1.00 | 52.00 ± 1.00 | 39.00 ± 0.75" in page


# More seeds


@pytest.fixture
def close(tmp_path):
    """`instructions`: joint and joint_bare differ by less than their noise, all others clearly."""
    for seed in SEEDS:
        fake_run(tmp_path, "transfer", "joint", seed, 0.50 + 0.03 * (seed % 2))
        fake_run(tmp_path, "instructions", "joint_bare", seed, 0.52)
        fake_run(tmp_path, "transfer", "mixed", seed, 0.30 + 0.0001 * seed)
        fake_run(tmp_path, "instructions", "mixed_bare", seed, 0.10)
    return tmp_path


def test_only_what_is_not_decided_gets_the_next_seed_and_borrowed_arms_get_it_where_they_are_run(close):
    question = by_name("instructions")
    labels = {
        contrast.label
        for contrast in sequential.undecided(question, results.by_arm(results.question_runs(question, close)))
    }
    assert labels == {"joint - joint_bare"}
    names = [step.name for step in sequential.next_steps(question, close)]
    assert names == ["transfer/joint_seed_4", "instructions/joint_bare_seed_4"]
    fake_run(close, "transfer", "joint", 4, 0.5)  # cut off in between
    assert [step.name for step in sequential.next_steps(question, close)] == names[1:]
    command = question.more("joint_bare", 4).command()
    assert "seed=4" in command
    assert set(command) - set(question.step("joint_bare").command()) == {
        "seed=4",
        "hydra.sweep.dir=multirun/laboratory/instructions/joint_bare_seed_4",
    }


def test_seven_seeds_are_the_end_and_every_look_has_a_fifth_of_the_level(close):
    question = by_name("instructions")
    for seed in question.more_seeds:
        for name, arm in (*question.borrowed, *(("instructions", arm) for arm in question.arms)):
            fake_run(close, name, arm, seed, 0.5 + 0.03 * (seed % 2) if arm == "joint" else 0.52)
    assert sequential.next_steps(question, close) == []
    arms = results.by_arm(results.question_runs(question, close))
    looks = results.looks_taken(question, arms)
    found = results.difference(question.contrasts[0], arms, "IR", looks)
    assert (found.num_seeds, found.looks) == (7, 5)
    at_the_edge = results.Difference(
        3.70, 1.0, 7, looks=5
    )  # t, 6 degrees of freedom: 3.707 at 1 %, 2.447 at 5 %
    assert not at_the_edge.beyond_noise
    assert at_the_edge._replace(mean=3.71).beyond_noise
    assert at_the_edge._replace(mean=2.45, looks=1).beyond_noise
    assert pages.write_page(question, close, close)
    assert "99 % interval" in (close / "instructions.md").read_text("utf-8")
