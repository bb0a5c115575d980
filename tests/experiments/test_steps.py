"""The frame of experiments: what has finished is skipped, what failed is shown, sweeps may have gaps."""

import json
import sys

import pytest

from experiments import steps
from experiments.steps import Step, run_steps


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository in which run_train.py only notes that it was called, and obeys `fake=` overrides."""
    (tmp_path / "run_train.py").write_text(
        "import json, pathlib, sys, time\n"
        "place = next(a for a in sys.argv if '.dir=' in a).partition('=')[2]\n"
        "folder = pathlib.Path(place); folder.mkdir(parents=True, exist_ok=True)\n"
        "with open('calls', 'a') as calls: calls.write(place + '\\n')\n"
        "print('first line', *sys.argv); print('the reason')\n"
        "if 'fake=waits' in sys.argv:\n"
        "    other = folder.with_name('beside')\n"
        "    while not (other / 'result.json').is_file(): time.sleep(0.01)\n"
        "if 'fake=fails' in sys.argv: sys.exit(3)\n"
        "if 'fake=nothing' in sys.argv: sys.exit(0)\n"
        "(folder / 'result.json').write_text(json.dumps({'scores': {'a': 0.5}, 'seconds': 2.0}))\n"
    )
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    return tmp_path


def step(name, *overrides, sweep=False, needs=()):
    return Step(name, steps.Path("outputs") / name, overrides, minutes=1, sweep=sweep, needs=needs)


def calls(root):
    return (root / "calls").read_text().split() if (root / "calls").is_file() else []


def test_steps_run_in_order_and_a_second_call_runs_only_what_is_missing(root, capsys):
    first, second = step("one"), step("two")
    seen = []
    run_steps([first, second], after=lambda done: seen.append(done.name))
    assert calls(root) == ["outputs/one", "outputs/two"]
    assert second.seconds() == 2.0
    (root / "outputs/one/result.json").unlink()
    run_steps([first, second], after=lambda done: seen.append(done.name))
    assert calls(root) == ["outputs/one", "outputs/two", "outputs/one"]
    assert seen == ["one", "two", "one", "two"]
    said = capsys.readouterr().out
    assert "one: step 1 of 2, about 2 min left" in said
    assert "two: finished before, outputs/two" in said


def test_on_a_card_the_same_commands_run_there(root):
    run_steps([step("one", "seed=1")], accelerator="gpu")
    assert "seed=1 trainer.accelerator=gpu hydra.run.dir" in (root / "outputs/one.log").read_text()


@pytest.mark.parametrize(("fake", "code"), [("fake=fails", 3), ("fake=nothing", 0)])
def test_a_command_that_fails_or_leaves_no_result_stops_with_its_command_and_last_lines(root, fake, code):
    with pytest.raises(SystemExit) as stop:
        run_steps([step("bad", fake), step("never")])
    message = str(stop.value)
    assert f"bad failed (exit code {code}): python run_train.py {fake} hydra.run.dir=outputs/bad" in message
    assert message.endswith("the reason")
    assert calls(root) == ["outputs/bad"]


def test_steps_run_beside_each_other_and_after_those_that_they_need(root, capsys):
    plan = [step("long", "fake=waits"), step("last", needs=("long",)), step("beside"), step("end")]
    plan[3] = plan[3]._replace(needs=("beside", "last"))
    seen = []
    run_steps(plan, after=lambda done: seen.append(done.name), at_once=2)  # one by one `long` would not end
    assert sorted(calls(root)[:2]) == ["outputs/beside", "outputs/long"]
    assert calls(root)[2:] == ["outputs/last", "outputs/end"]
    assert sorted(seen) == ["beside", "end", "last", "long"]
    assert seen.index("long") < seen.index("last")
    assert seen[-1] == "end"
    assert "long: step 1 of 4, about 2 min left" in capsys.readouterr().out


def test_what_runs_beside_a_step_that_fails_ends_and_nothing_starts_after_it(root, capsys):
    plan = [step("bad", "fake=fails"), step("beside"), step("never"), step("nor", needs=("bad",))]
    with pytest.raises(SystemExit, match="bad failed"):
        run_steps(plan, at_once=2)
    assert "outputs/nor" not in calls(root)
    assert plan[1].has_finished()
    assert "bad: failed" in capsys.readouterr().out


def test_a_sweep_has_finished_when_all_its_jobs_have(root):
    sweep = step("seeds", "seed=1,2", sweep=True)
    assert "-m" in sweep.command()
    assert "hydra.sweep.dir=outputs/seeds" in sweep.command()
    assert not sweep.has_finished()
    folder = root / "outputs/seeds"
    for job, score in (("0", 0.1), ("1", 0.2)):
        (folder / job).mkdir(parents=True)
        (folder / job / "result.json").write_text(json.dumps({"scores": {"a": score}, "seconds": 4.0}))
    table = [{"finished": True}, {"finished": False}]
    (folder / "sweep.json").write_text(json.dumps(table))
    assert not sweep.has_finished()
    (folder / "sweep.json").write_text(json.dumps([{"finished": True}] * 2))
    assert sweep.has_finished()
    assert [result["scores"]["a"] for result in sweep.results()] == [0.1, 0.2]
    assert sweep.seconds() == 8.0


def test_every_command_can_be_typed_and_resumes():
    command = step("x", "stage=align").command()
    assert command == ["run_train.py", "stage=align", "hydra.run.dir=outputs/x", "resume=true"]
    assert sys.executable not in command
