"""The laboratory's pages, from made-up sweeps, and when a question gets more seeds."""

import json
import re
import shlex

import pytest

from experiments.laboratory import pages, results, sequential
from experiments.laboratory.arms import ARMS, EXPERIMENT
from experiments.laboratory.material import FRAMES, OUTSIDE
from experiments.laboratory.question import SEEDS, Contrast
from experiments.laboratory.questions import QUESTIONS, by_name, own_steps, run_folder


def fake_run(root, question, arm, seed, score, *more):
    """What a job of a sweep leaves, as far as a page reads it."""
    if seed in by_name(question).seeds:
        job = root / run_folder(question, arm, seed)
    else:
        job = root / by_name(question).more(arm, seed).folder / "0"
    (job / ".hydra").mkdir(parents=True)
    overrides = [EXPERIMENT, *ARMS[arm], f"seed={seed}", *more]
    (job / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides), "utf-8")
    asked = by_name(question)
    tasks, outside = asked.material.tasks, OUTSIDE if asked.outside else ()
    scores = dict.fromkeys(tasks, score) | {tasks[-2]: score / 2} | dict.fromkeys(outside, 1 - score)
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


def test_every_question_has_a_page():
    assert [question.name for question in QUESTIONS if question not in PUBLISHED] == []


@pytest.mark.parametrize("question", PUBLISHED, ids=[question.name for question in PUBLISHED])
def test_the_published_page_names_the_commands_that_run_now(question):
    page = (pages.FOLDER / f"{question.name}.md").read_text("utf-8")
    told = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("    python run_train.py")]
    assert told == [step.command() for step in own_steps(question)]


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


def test_a_page_says_which_runs_were_made_on_a_card(tmp_path):
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


def test_text_outside_of_the_training_data_has_a_column_and_a_difference_of_its_own(tmp_path):
    question = by_name("real_minilm_forgetting")
    for seed in SEEDS:
        fake_run(tmp_path, question.name, "start", seed, 0.5)
        fake_run(tmp_path, question.name, "joint", seed, 0.6 + 0.01 * seed)
    assert pages.write_page(question, tmp_path, tmp_path)
    page = (tmp_path / "real_minilm_forgetting.md").read_text("utf-8")
    command = next(line for line in page.splitlines() if line.startswith("    python run_train.py"))
    assert "DiagnosisPairs,PapersRetrieval,PapersClassification]" in command
    assert (
        "| arm | seeds | GlossRetrieval | DiagnosisSTS | DiagnosisPairs | IR | STS | mean | outside |" in page
    )
    assert "| `joint` | 3 | 62.00 ± 1.00 | 31.00 ± 0.50 | 62.00 ± 1.00 | 62.00" in page  # outside is no IR
    assert "| 38.00 ± 1.00 |" in page
    (difference,) = [line for line in page.splitlines() if line.startswith("| joint - start |")]
    assert difference.endswith("| -12.00 ± 0.58 * (3.10) |")
    assert "`outside` is the mean of PapersRetrieval and PapersClassification" in page


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


def test_a_further_seed_of_a_shared_arm_alone_is_no_look_of_this_question(close):
    question = by_name("instructions")
    fake_run(close, "transfer", "joint", 4, 0.5)
    assert results.looks_taken(question, results.by_arm(results.question_runs(question, close))) == 1
    fake_run(close, "instructions", "joint_bare", 4, 0.5)
    assert results.looks_taken(question, results.by_arm(results.question_runs(question, close))) == 5


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
