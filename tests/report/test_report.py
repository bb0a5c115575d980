"""report.html says what lies in the run folder, needs nothing else, and stands whatever is missing there."""

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from codiemb.errors import UserError
from codiemb.report import write_report
from codiemb.report.axes import fit_axis, short
from codiemb.report.charts import WIDTH, Series, line_chart, smoothed
from codiemb.report.page import evaluation_table

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"
VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Fails on a tag closed in the wrong place; collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.headings: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if "h2" in self.open:
            self.headings.append(data)
        if "style" not in self.open:
            self.text += data


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


def evaluation(scores: dict[str, float], **more) -> dict:
    rows = [
        {"task": task, "metric": "ndcg_at_10", "score": score, "revision": "r", "bm25": None, **more}
        for task, score in scores.items()
    ]
    return {"model": "m", "model_revision": "r", "mteb_version": "2", "results": rows, "missing": []}


def look(step: int, text: str) -> dict:
    counts = [0] * 200
    counts[150 + step] = 7
    found = [{"text": text, "similarity": 0.5, "is_positive": True}]
    return {
        "step": step, "source": "s", "task": "ir", "num_queries": 1, "num_documents": 1,
        "metrics": {"ndcg@10": 0.25}, "histograms": {"positive": counts},
        "neighbours": [{"query": f"query {text}", "documents": found}],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run with everything in it."""
    (tmp_path / "config.yaml").write_text(
        f"stage: finetune\nmodel: {{name: tiny}}\nseed: 3\nnote: '{ATTACK}'\n"
    )
    (tmp_path / "environment.json").write_text(json.dumps({"git_commit": "abcdef0123456", "command": ATTACK}))
    rows = []
    for step in range(9, 300, 10):
        row = {"step": step, "time": 1.0, "lr-AdamW": 1e-4, "perf/tokens_per_second": 9_000.0}
        for task in ("ir", "sts"):
            row |= {
                f"train/loss/{task}": 2 / (step + 1),
                f"train/loss/{task}/a": 0.5,
                f"train/loss/{task}/b": 1.5,
            }
            row |= {f"train/alignment/{task}": 1.0, f"train/uniformity/{task}": -step / 100}
        rows.append(row | {"train/loss/ir/a/positive_similarity": 0.7, "train/gradient_cosine/ir_sts": -0.1})
    rows.append({"step": 300, "val/Dev/ndcg@10": 0.4})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "probe.jsonl").write_text("".join(json.dumps(look(step, ATTACK)) + "\n" for step in (0, 40)))
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/before.json").write_text(json.dumps(evaluation({"A": 0.25, "B": 0.5})))
    (tmp_path / "evaluation/results.json").write_text(json.dumps(evaluation({"A": 0.375, "B": 0.4})))
    (tmp_path / "result.json").write_text(json.dumps({"scores": {}, "seconds": 61.0}))
    return tmp_path


def report(folder: Path) -> Balanced:
    return parsed(write_report(folder).read_text("utf-8"))


def test_a_full_run_shows_every_section(folder: Path) -> None:
    page = report(folder)
    headings = ("Evaluation", "Dev metrics", "Losses", "Contrast", "Geometry of the embeddings")
    more = (
        "Similarity before and after",
        "Optimisation and speed",
        "Probe",
        "Nearest documents",
        "Configuration",
    )
    for heading in (*headings, *more):
        assert f"\n{heading}\n" in page.text.replace("\n\n", "\n"), heading
    for fact in (
        "finished",
        "0:01:01",
        "300",
        "9,000",
        "abcdef0123",
        "+12.50",
        "-10.00",
        "step 0",
        "step 40",
    ):
        assert fact in page.text, fact


def test_the_page_needs_no_network_and_runs_no_code(folder: Path) -> None:
    page = report(folder)
    assert {tag for tag, _ in page.tags}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "image", "use"}
    )
    for _, attributes in page.tags:
        assert not any(name in ("src", "href", "xlink:href") or name.startswith("on") for name in attributes)
    source = (folder / "report.html").read_text("utf-8")
    assert "url(" not in source
    assert "@import" not in source


def test_text_of_documents_config_and_environment_is_escaped_and_readable(folder: Path) -> None:
    page = report(folder)
    assert page.text.count("<script>alert(1)</script>") == 5  # config, environment, query, a hit of each look
    assert "<script>" not in (folder / "report.html").read_text("utf-8")


def test_every_chart_is_well_formed(folder: Path) -> None:
    report(folder)
    figures = re.findall(r"<svg.*?</svg>", (folder / "report.html").read_text("utf-8"), flags=re.DOTALL)
    assert len(figures) == 15
    for figure in figures:
        ElementTree.fromstring(figure)


@pytest.mark.parametrize(
    "missing",
    ["evaluation/before.json", "evaluation/results.json", "probe.jsonl", "metrics.jsonl", "environment.json"],
)
def test_a_run_without_one_of_its_files_has_a_report(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    report(folder)


def test_a_run_stopped_at_its_start_has_a_report(folder: Path) -> None:
    for path in folder.rglob("*.json*"):
        path.unlink()
    assert "unfinished" in report(folder).text


def test_a_line_cut_short_by_a_crash_is_passed_over(folder: Path) -> None:
    whole = report(folder).text
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 310, "train/lo')
    (folder / "result.json").unlink()
    page = report(folder).text
    assert "unfinished" in page
    assert "Losses" in page
    assert "Losses" in whole


def test_a_bad_line_inside_a_file_is_named(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1}\n{"step": \n{"step": 3, "a": 1}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not valid JSON"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_values_that_are_not_finite_are_left_out_and_counted(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 309, "train/loss/ir": NaN, "train/only_nan": NaN, "lr-AdamW": Infinity}\n')
    page = report(folder)
    assert "values not finite3" in re.sub(r"\s", " ", page.text).replace("\n", "").replace(
        "finite 3", "finite3"
    )
    source = (folder / "report.html").read_text("utf-8")
    assert not re.search(r'points="[^"]*(nan|inf)', source)


def test_a_run_of_one_task_draws_no_legend_and_no_gradient_cosine(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if "sts" not in k} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    page = report(folder)
    assert "sts" not in page.text
    assert "cosine of the gradients" not in page.text


def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run folder: it has no config\.yaml"):
        write_report(tmp_path)


def test_the_command_line_writes_the_report_or_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codiemb.report"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == str(folder / "report.html")
    refused = subprocess.run(
        [*command, str(tmp_path / "no")], capture_output=True, text=True, timeout=120, check=False
    )
    assert refused.returncode == 2
    assert "no run folder" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_line_goes_through_its_points() -> None:
    points = [(0.0, 0.31), (10.0, -0.2), (25.0, 0.77), (30.0, 0.5), (50.0, 0.1)]
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", line_chart("t", [Series("a", "c1", points)]))[0])
    ticks = [(float(t.get("y")) - 3.5, float(t.text)) for t in svg.iter("text") if t.get("class") == "y"]
    (y1, v1), (y2, v2) = ticks[0], ticks[-1]
    across = [(float(t.get("x")), t.text) for t in svg.iter("text") if t.get("class") == "x"]
    steps = [(x, float(label)) for x, label in across if label != "optimizer step"]
    (x1, s1), (x2, s2) = steps[0], steps[-1]
    drawn = [tuple(map(float, p.split(","))) for p in svg.find("polyline").get("points").split()]
    for (x, y), (step, value) in zip(drawn, points, strict=True):
        assert s1 + (x - x1) / (x2 - x1) * (s2 - s1) == pytest.approx(step, abs=0.05)
        assert v1 + (y - y1) / (y2 - y1) * (v2 - v1) == pytest.approx(value, abs=0.002)


def test_smoothing_is_a_weighted_mean_of_the_past() -> None:
    values = [(float(i), math.sin(i)) for i in range(50)]
    keep = 1 - 1 / 5
    for k, (step, value) in enumerate(smoothed(values)):
        weights = [keep ** (k - i) for i in range(k + 1)]
        mean = sum(w * v for w, (_, v) in zip(weights, values, strict=False)) / sum(weights)
        assert (step, value) == (float(k), pytest.approx(mean))


@pytest.mark.parametrize(
    "values", [[3.0], [0.0, 0.0], [-1e-9, 1e-9], [1e6, 1e6 + 1], [0.11, 0.93], [-7e-5, 2e-5]]
)
@pytest.mark.parametrize("loose", [True, False])
def test_an_axis_holds_its_values_and_has_a_few_distinct_ticks(values, loose) -> None:
    axis = fit_axis(values, 0, WIDTH, num_ticks=4, loose=loose)
    assert all(-0.1 <= axis.pixel(value) <= WIDTH + 0.1 for value in values)
    assert 2 <= len(axis.ticks) <= 8
    assert all(axis.low - 1e-12 <= tick <= axis.high * (1 + 1e-12) + 1e-12 for tick in axis.ticks)


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, "0"), (12_000, "12k"), (2_500_000, "2.5M"), (0.00035, "3.5e-4"), (-0.5, "-0.5"), (1e-4, "1e-4")],
)
def test_labels_are_short(value, label) -> None:
    assert short(value) == label


def test_only_scores_of_the_same_test_are_compared_and_means_have_no_gaps() -> None:
    before = evaluation({"A": 0.1, "B": 0.2})["results"]
    after = evaluation({"A": 0.3, "B": 0.6})["results"]
    before[0]["revision"] = "other data"
    a, b, mean = evaluation_table(before, after)
    assert (a["before"], a["gain"]) == (None, None)
    assert (b["before"], b["gain"]) == (0.2, pytest.approx(0.4))
    assert (mean["before"], mean["after"], mean["gain"]) == (None, pytest.approx(0.45), None)
    only_before = evaluation_table(before, [])
    assert [row["before"] for row in only_before] == [0.1, 0.2, pytest.approx(0.15)]
    assert evaluation_table([], []) == []
    assert [row["task"] for row in evaluation_table(before, after, num_missing=1)] == ["A", "B"]


def test_what_was_trained_before_it_was_fused_has_a_column_of_its_own() -> None:
    before, trained, fused = (evaluation({"A": a, "B": b})["results"] for a, b in ((1, 2), (3, 4), (5, 6)))
    trained[0]["revision"] = "other data"
    a, b, mean = evaluation_table(before, fused, trained)
    assert (a["before"], a["trained"], a["after"], a["gain"]) == (1, None, 5, 4)
    assert (b["trained"], mean["trained"], mean["after"]) == (4, None, 5.5)
    assert evaluation_table(before, fused)[0]["trained"] is None
