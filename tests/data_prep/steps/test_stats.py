"""What the page of a mixture says: counted by hand, by numpy, and by the trainer's own batches."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from codiemb.batch import Batch
from codiemb.data import (
    Alternate,
    Collator,
    Plan,
    PlannedBatches,
    PlannedSource,
    Proportional,
    Schedule,
    SizePower,
    SourceFile,
    TaskSpec,
    convert,
    open_sources,
)
from codiemb.encoder.tokenization import PromptTemplate, TextTokenizer
from codiemb.errors import UserError
from data_prep.__main__ import main
from data_prep.runner import run_step
from data_prep.statistics import distinct
from data_prep.statistics.counts import Counter, quantile, share_above
from data_prep.statistics.distinct import Distinct
from data_prep.statistics.planned import TrainingPlan, read_plan
from data_prep.steps.export import Parameters as ExportParameters
from data_prep.steps.stats import Parameters
from tests.support.killed import killed_at
from tests.support.sources import make_source


def record(query: str, positives: list[str], negatives: list[str], instruction: str = "Find it") -> dict:
    return {
        "task_type": "ir",
        "query": [instruction, "", query],
        "positives": [["", "", text] for text in positives],
        "negatives": [["", "", text] for text in negatives],
    }


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), "utf-8")
    return path


def counted(tmp_path: Path, options: Parameters, folders: list[Path] | None = None) -> dict:
    run_step("stats", folders or [], tmp_path / "stats", options)
    return json.loads((tmp_path / "stats" / "stats.json").read_text("utf-8"))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    first = [
        record("one two", ["这是一个文档"], ["ab", "abcd"]),
        record("One  Two", ["这是一个文档", "abcd"], []),  # the query of before but for case and blanks
        {"task_type": "sts", "query": "a", "positives": ["b"], "positive_scores": [0.25]},
    ]
    scores = {"positive_scores": [None], "negative_scores": [-7.25]}  # a teacher's, who did not see all
    second = [record("another", ["ABCD"], ["efghij"]) | scores]
    return [str(write(tmp_path / "first.jsonl", first)), str(write(tmp_path / "second.jsonl", second))]


def test_a_mixture_counted_by_hand(tmp_path: Path, files: list[str]) -> None:
    about = counted(tmp_path, Parameters(files=files))
    assert about["unit"] == "characters"
    assert list(about["sources"]) == ["first.ir", "first.sts", "second"]
    first = about["sources"]["first.ir"]
    assert first["records"] == 2
    assert first["texts"] == {"query": {"all": 2, "different": 1}, "document": {"all": 5, "different": 3}}
    assert first["documents"] == {"positive": 1.5, "negative": 1.0}
    assert first["languages"] == {"query": {"latin": 2}, "document": {"latin": 3, "zh": 2}}
    assert first["lengths"]["document"] == {"0.5": 4, "0.95": 6, "0.99": 6, "1.0": 6, "mean": 22 / 5}
    page = (tmp_path / "stats" / "stats.md").read_text("utf-8")
    assert "| first.ir | second | 0 | 1 |" in page  # abcd and ABCD
    assert "| first.sts | positives | 1 | 0.25 | 0.25 | 0.25 |" in page
    assert "| second | negatives | 1 | -7.25 | -7.25 | -7.25 |" in page
    html = (tmp_path / "stats" / "stats.html").read_text("utf-8")
    assert html.count("<svg") == 6
    assert "http" not in html.replace("http-equiv", "")  # nothing is fetched


def test_an_exported_folder_brings_its_licence_and_its_lineage(tmp_path: Path) -> None:
    about = {"licence": "cc-by-4.0"}
    source = make_source(tmp_path / "in", {"q": "a query"}, {"d": "a text"}, [("q", "d")], about=about)
    run_step("export", [source], tmp_path / "out", ExportParameters())
    found = counted(tmp_path, Parameters(), [tmp_path / "out"])
    assert found["sources"]["toy"]["licence"] == "cc-by-4.0"
    assert "| toy | fetch → export |" in (tmp_path / "stats" / "stats.md").read_text("utf-8")


LIMITS = {"global_batch_size": 4, "max_query_tokens": 24, "max_document_tokens": 9}


@pytest.mark.parametrize("drawn", [{}, {"num_positives": 1, "num_negatives": 2}], ids=["all", "some"])
def test_tokens_of_an_epoch_are_those_of_the_trainers_batches(
    tmp_path: Path, byte_level: Path, drawn: dict
) -> None:
    """Documents of one kind are equally long, so any that are drawn count the same; none stands twice."""
    words = iter(f"{number:04d}" for number in range(10_000))  # four tokens

    def texts(count: int, num_words: int) -> list[str]:
        return [" ".join(next(words) for _ in range(num_words)) for _ in range(count)]

    records = [
        record(texts(1, 1 + i % 4)[0], texts(1 + i % 3, 1 + i % 5), texts(i % 4, 1 + i % 2))
        for i in range(12)
    ]
    path = write(tmp_path / "a.jsonl", records)

    spec = TaskSpec(**LIMITS, **drawn)
    convert([SourceFile("a", path)], tmp_path / "cache", skip_bad=False)
    sources = open_sources([SourceFile("a", path)], tmp_path / "cache")
    plan = Plan([PlannedSource("a", "ir", len(records), 4)], Proportional(), seed=0)
    tokenizer = TextTokenizer(AutoTokenizer.from_pretrained(byte_level), PromptTemplate())
    batches = PlannedBatches(
        sources, plan, Collator(tokenizer, {"ir": spec}, 0), num_batches=plan.steps_per_epoch
    )
    total = 0
    for step in range(len(batches)):
        batch = batches[step]
        assert isinstance(batch, Batch)
        num_texts = len(batch.query_sequence_B) + len(batch.document_sequence_N)
        assert len(batch.texts.sequence_lengths) == num_texts  # none is encoded once for two
        total += len(batch.texts.input_ids_T)

    options = Parameters(
        files=[str(path)], tokenizer=str(byte_level), plan={"tasks": {"ir": LIMITS | drawn}, "seed": 0}
    )
    about = counted(tmp_path, options)
    (planned,) = about["plan"]
    for side, limit in (("query", 24), ("document", 9)):  # some are cut, and some are not
        lengths = about["sources"]["a"]["lengths"][side]
        assert lengths["0.5"] <= limit < lengths["1.0"]
    assert planned["steps"] == plan.steps_per_epoch == len(records) // 4
    assert planned["steps"] * planned["tokens_per_step"] == pytest.approx(total)


@pytest.mark.parametrize(
    ("sampler", "whole_cycles"),
    [(Proportional(), 100), (SizePower(0.5), 1_000), (Alternate(), 100)],
    ids=["proportional", "power", "alternate"],
)
def test_steps_of_a_source_are_its_share_of_a_cycle_of_the_plan(sampler: Schedule, whole_cycles: int) -> None:
    sources = [PlannedSource("a", "ir", 90, 1), PlannedSource("b", "ir", 10, 1)]
    plan = TrainingPlan({}, sampler, 3)
    steps = plan.steps(sources)
    assert sum(steps) == pytest.approx(100)
    laid_out = plan.of(sources)
    drawn = np.bincount([laid_out[step].source for step in range(whole_cycles)])
    assert steps == pytest.approx((drawn * 100 / whole_cycles).tolist())


def test_what_the_trainer_would_refuse_stands_in_the_page(
    tmp_path: Path, files: list[str], byte_level: Path
) -> None:
    plan = {"tasks": {"ir": {"global_batch_size": 2}, "sts": {"global_batch_size": 9}}}
    about = counted(tmp_path, Parameters(files=files, tokenizer=str(byte_level), plan=plan))
    assert "fewer than one batch: tasks.sts.global_batch_size=9" in about["plan"]
    assert "Training would stop here" in (tmp_path / "stats" / "stats.html").read_text("utf-8")


def test_a_killed_run_counts_only_the_files_that_are_left(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = counted(tmp_path / "whole", Parameters(files=files))
    made = killed_at(monkeypatch, 2, of="parts")
    with pytest.raises(KeyboardInterrupt):
        counted(tmp_path, Parameters(files=files))
    assert counted(tmp_path, Parameters(files=files)) == whole
    assert made == ["00000.npz", "00001.npz", "00001.npz"]
    pages = [folder / "stats" / "stats.html" for folder in (tmp_path, tmp_path / "whole")]
    assert pages[0].read_bytes() == pages[1].read_bytes()


@given(st.lists(st.integers(0, 40), min_size=1), st.sampled_from([0.0, 0.3, 0.5, 0.95, 1.0]))
def test_quantiles_are_numpys(values: list[int], share: float) -> None:
    assert quantile(Counter(values), share) == np.quantile(values, share, method="inverted_cdf")
    assert share_above(Counter(values), 20) == pytest.approx(np.mean(np.array(values) > 20))


@given(st.lists(st.lists(st.integers(-5, 5))), st.lists(st.integers(-5, 5)))
def test_different_texts_are_those_of_a_set(parts: list[list[int]], others: list[int]) -> None:
    ours, theirs = Distinct(), Distinct()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct, "_WAITING", 3)  # so that some are packed, and some are sorted in
        theirs.add(others)
        for part in parts:
            ours.add(part)
    flat = [value for part in parts for value in part]
    assert ours.values.tolist() == sorted(set(flat))
    assert ours.repeated == len(flat) - len(set(flat))
    assert ours.common(theirs) == len(set(flat) & set(others))
    ours.merge(theirs)
    assert (ours.added, ours.values.tolist()) == (len(flat) + len(others), sorted(set(flat + others)))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"task": {}}, "unknown key 'task'; a plan has tasks"),
        ({"seed": 1}, "no tasks: it needs tasks.ir.global_batch_size"),
        ({"tasks": {"ir": {"batch_size": 4}}}, "plan: tasks.ir: unknown key 'batch_size'"),
        ({"tasks": {"ir": {"max_query_tokens": "${model.max_tokens}"}}}, "not resolved"),
        ({"tasks": {"ir": {"global_batch_size": "many"}}}, "tasks.ir.global_batch_size='many'"),
        ({"tasks": {}, "sampler": {"_target_": "os.remove"}}, "sampler._target_='os.remove'; there are"),
        ({"tasks": {}, "sampler": {"_target_": "codiemb.data.SizePower"}}, r"sampler: .*alpha"),
    ],
)
def test_a_plan_that_is_none_is_one_clear_error(plan: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_plan(plan)


def test_a_runs_own_config_is_a_plan(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "stage: finetune\nseed: 7\ntasks: {ir: {global_batch_size: 8}}\n"
        "sampler: {_target_: codiemb.data.SizePower, alpha: 0.5}\n"
    )
    plan = read_plan(str(file))
    assert plan is not None
    assert (plan.seed, plan.tasks["ir"].global_batch_size, type(plan.sampler)) == (7, 8, SizePower)


def test_what_cannot_be_counted_says_so(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(UserError, match="--plan needs --tokenizer"):
        counted(tmp_path, Parameters(files=files, plan={"tasks": {"ir": {}}}))
    with pytest.raises(UserError, match="nothing to read; give --in FOLDER"):
        counted(tmp_path, Parameters())
    with pytest.raises(UserError, match=r"nowhere.jsonl: no such file"):
        counted(tmp_path, Parameters(files=["nowhere.jsonl"]))
    source = make_source(tmp_path / "in", {"q": "a"}, {"d": "b"})
    with pytest.raises(UserError, match="not what export wrote"):
        counted(tmp_path, Parameters(), [source])


def test_files_alone_need_no_folder(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["stats", "--files", ",".join(files), "--out", str(tmp_path / "page")])
    assert (tmp_path / "page" / "stats.html").is_file()
