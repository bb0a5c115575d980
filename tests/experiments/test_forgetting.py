"""The page on forgetting, from made-up runs."""

import json

from codiemb.evaluation.builtin import OUTSIDE as OUTSIDE_TASKS
from experiments.laboratory import forgetting


def test_every_fusion_waits_for_its_run_and_a_page_names_what_has_not_run(tmp_path):
    steps = forgetting.steps()
    names = [step.name for step in steps]
    for step in steps:
        assert all(names.index(need) < names.index(step.name) for need in step.needs)
    assert len({step.folder for step in steps}) == len(steps)
    assert not forgetting.write_page(tmp_path / "page.md", tmp_path)
    for seed, outside in ((1, 0.5), (2, 0.6)):
        folder = tmp_path / forgetting.RUNS / "whole" / str(seed)
        folder.mkdir(parents=True)
        scores = {"FramesSTS": 0.6, "DocsRetrieval": 0.8} | dict.fromkeys(forgetting.OUTSIDE, outside)
        (folder / "result.json").write_text(json.dumps({"scores": scores, "seconds": 1.0}))
    assert forgetting.write_page(tmp_path / "page.md", tmp_path)
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "| `whole` | 2 | 60.00 ± 0.00 | 80.00 ± 0.00 |" in page
    assert "| 70.00 ± 0.00 | 55.00 ± 7.07 |" in page
    assert "Not run: lower_rate 1, " in page
    assert (tmp_path / "page.png").is_file()


def test_what_is_outside_is_what_the_evaluation_calls_so():
    assert tuple(task.metadata.name for task in OUTSIDE_TASKS) == forgetting.OUTSIDE
