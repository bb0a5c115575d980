"""The three-stage experiment: its commands are valid, its arms comparable, its page shows the runs."""

import copy
import functools
import json

import pytest
from hydra import compose, initialize_config_dir

from codiemb.config.preflight import preflight
from codiemb.config.schema import register
from codiemb.config.typed import typed_train
from experiments import steps
from experiments.three_stage import page, plan, tables
from tests.support.paths import ROOT

TASKS = ("DocsRetrieval", "FramesSTS")


@functools.cache  # 0.2 s each
def composed(name):
    register()
    step = next(step for step in plan.all_steps() if step.name == name)
    overrides = [o for o in step.command()[1:] if o != "-m" and not o.startswith("hydra.")]
    first = [o.replace(",".join(map(str, plan.SEEDS)), str(plan.SEEDS[0])) for o in overrides]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return typed_train(compose("train", [*first, "run_dir=."]))


NAMES = [step.name for step in plan.all_steps()]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_passes_preflight_and_starts_from_an_earlier_step(name):
    cfg = composed(name)
    preflight(cfg)
    earlier = {f"{step.folder}/export" for step in plan.all_steps()[: NAMES.index(name)]}
    starts = cfg.fuse.base if cfg.fuse else cfg.model.path
    assert starts in earlier if name != "random" else starts is None


def test_a_step_waits_for_the_steps_whose_folders_it_reads():
    for number, step in enumerate(plan.all_steps()):
        earlier = {each.name: str(each.folder) for each in plan.all_steps()[:number]}
        reached = set(step.needs)
        for name in reversed(earlier):
            reached |= set(plan.all_steps()[list(earlier).index(name)].needs) if name in reached else set()
        read = {name for name, folder in earlier.items() if any(f"{folder}/" in o for o in step.overrides)}
        assert read <= reached, step.name


def test_only_what_is_compared_differs_between_arms():
    tuned = [copy.deepcopy(composed(f"{arm.name}/finetune")) for arm in plan.ARMS]
    assert len({arm.start for arm in plan.ARMS}) == len(plan.ARMS)
    for cfg in tuned:
        cfg.model.path = None
    assert all(cfg == tuned[0] for cfg in tuned)
    aligned = [copy.deepcopy(composed(name)) for name in ("align", "align_random")]
    aligned[0].model.path = aligned[1].model.path = None
    assert aligned[0] == aligned[1]


def test_nothing_is_chosen_on_the_test_side():
    for name in NAMES:
        cfg = composed(name)
        assert cfg.task.split == ("test" if cfg.fuse else "dev"), name


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Everything has run: seeds of arm number a score 0.2 a + 0.01 seed, their fusion 0.2 a + 0.03."""
    for module in (steps, tables):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for step in plan.all_steps():
        if not step.sweep and "fuse" not in step.name:
            write(tmp_path / step.folder / "result.json", result(0.1))
    for number, arm in enumerate(plan.ARMS):
        for job in range(3):
            score = 0.2 * number + 0.01 * job
            write(tmp_path / arm.finetune / str(job) / "result.json", result(1 - score))  # dev: the other way
            rows = [{"task": task, "score": score} for task in TASKS]
            write(tmp_path / arm.fuse / f"evaluation/checkpoint_{job + 1}.json", {"results": rows})
        write(tmp_path / arm.finetune / "sweep.json", [{"finished": True}] * 3)
        write(tmp_path / arm.fuse / "result.json", result(0.2 * number + 0.03))
    return tmp_path


def result(score):
    return {"scores": dict.fromkeys(TASKS, score), "seconds": 60.0}


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), "utf-8")


def row(text, label):
    line = next(line for line in text.splitlines() if line.startswith(f"| {label} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_page_shows_what_the_runs_left_and_keeps_its_conclusion(finished):
    arms = {arm.name: tables.read_arm(arm) for arm in plan.ARMS}
    text = page.write_page(finished, arms).read_text("utf-8")
    assert row(text, "without stage 1, 3 seeds")[-1] == "21.00 ± 1.00"
    assert row(text, "without stage 1, best seed on dev")[-1] == "20.00"  # on the test side it is the worst
    assert row(text, "without stage 1, fused")[-1] == "23.00"
    assert row(text, "full/finetune")[-1] == "99.00 ± 1.00"  # on the dev side
    assert row(text, "minutes")[-1] == f"{4 + 4 * 3 + 4:.1f}"
    assert (finished / "plot.png").stat().st_size > 5000

    first = "## Conclusion\n\nNot written yet.\n"
    assert text.endswith(first)
    written = text.replace("Not written yet.", "Stage 2 pays.")
    (finished / "README.md").write_text(written, "utf-8")
    assert page.write_page(finished, arms).read_text("utf-8") == written


def test_a_gain_is_the_difference_of_means_with_its_standard_error(finished):
    gains = tables.stage_gains({arm.name: tables.read_arm(arm) for arm in plan.ARMS})
    by_name = {gain.stage.split(" (")[0]: gain for gain in gains[::-1]}
    align = by_name["2 align"]  # after pretrain: full (0) against no_align (2)
    assert align.points == pytest.approx(-40)
    assert align.error == pytest.approx(0, abs=1e-9)  # every seed loses 40
    unequal = tables.Gain("x", without=[1.0, 2.0, 3.0], with_it=[2.0, 4.0, 3.0])
    assert unequal.error == pytest.approx(3**-0.5)  # differences 1, 2, 0 have sd 1
    assert gains[-2].points == pytest.approx(2)  # fused 3, mean seed 1
    assert gains[-1].points == pytest.approx(3)  # best on dev is 0
    assert "+2.00 " in tables.gain_table(gains)
