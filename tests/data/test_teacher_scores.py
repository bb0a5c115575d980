"""A teacher's scores: as the file has them from the reader to the batch; graded nowhere; missed in time."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codiemb.batch import Batch, EmbeddedBatch
from codiemb.callbacks.probe import quality
from codiemb.config import assemble
from codiemb.config.losses import build_losses, check_teachers
from codiemb.data import Collator, Source, SourceFile, TaskSpec, content_hash, convert, open_sources
from codiemb.encoder import TextTokenizer
from codiemb.errors import UserError
from tests.support import golden_run
from tests.support.paths import GOLDEN

WriteLines = Callable[..., Path]
KL = {"_target_": "codiemb.losses.DistillKL"}
MARGIN = {"_target_": "codiemb.losses.MarginMSE"}
INFO_NCE = {"_target_": "codiemb.losses.InfoNCE"}


def ir(number: int, **more: Any) -> dict[str, Any]:
    texts = {"positives": [f"p {number}", f"p' {number}"], "negatives": [f"n {number}", f"n' {number}"]}
    return {"task_type": "ir", "query": f"q {number}"} | texts | more


def opened(cache: Path, *files: Path, score_range: tuple[float, float] = (0.0, 1.0)) -> list[Source]:
    sources = [SourceFile(file.stem, file, score_range) for file in files]
    convert(sources, cache, skip_bad=False)
    return open_sources(sources, cache)


def collated(tokenizer: TextTokenizer, source: Source, spec: TaskSpec | None = None) -> Batch:
    collate = Collator(tokenizer, {source.task: spec or TaskSpec()}, seed=1)
    numbers = range(len(source))
    batch = collate([source[i] for i in numbers], source=source.name, epoch=0, indices=numbers)
    assert isinstance(batch, Batch)
    return batch


scores = st.lists(st.none() | st.integers(-50, 50) | st.floats(-1e30, 1e30), min_size=2, max_size=2)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(scores, st.just([]) | scores), min_size=1, max_size=4))
def test_what_the_file_has_arrives_in_the_batch(
    rows: list[tuple[list[float | None], list[float | None]]],
    write_lines: WriteLines,
    tokenizer: TextTokenizer,
    tmp_path: Path,
) -> None:
    """Whatever the range declared for gold scores; null and what is not there as NaN; in single precision."""
    records = [ir(i, positive_scores=p, negative_scores=n) for i, (p, n) in enumerate(rows)]
    (source,) = opened(tmp_path / "cache", write_lines(records), score_range=(0.0, 5.0))
    groups = collated(tokenizer, source).groups
    given_of = {
        content_hash(text): math.nan if score is None else score
        for record in records
        for side in ("positive", "negative")
        for text, score in zip(record[f"{side}s"], record[f"{side}_scores"] or [None] * 2, strict=True)
    }
    expected = torch.tensor([given_of[text] for text in groups.document_hash_N.tolist()], dtype=torch.float32)
    assert groups.teacher_score_N is not None
    torch.testing.assert_close(groups.teacher_score_N, expected, rtol=0, atol=0, equal_nan=True)
    assert bool(groups.score_N.isnan().all())


def test_drawn_documents_keep_their_scores(
    write_lines: WriteLines, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    records = [ir(i, positive_scores=[i, i + 0.25], negative_scores=[i + 0.5, i + 0.75]) for i in range(9)]
    (source,) = opened(tmp_path / "cache", write_lines(records))
    groups = collated(tokenizer, source, TaskSpec(num_positives=1, num_negatives=1)).groups
    texts = {content_hash(f"{kind} {i}"): i + part for i in range(9) for kind, part in PARTS.items()}
    assert groups.teacher_score_N is not None
    assert groups.teacher_score_N.tolist() == [texts[text] for text in groups.document_hash_N.tolist()]
    assert len(groups.owner_N) == 18


PARTS = {"p": 0, "p'": 0.25, "n": 0.5, "n'": 0.75}


@pytest.mark.parametrize("task", ["sts", "mixed"])
def test_gold_scores_stay_gold(
    task: str, write_lines: WriteLines, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    record = ir(0, task_type=task, positive_scores=[4, 5], negative_scores=[0, 1])
    (source,) = opened(tmp_path / "cache", write_lines([record]), score_range=(0.0, 5.0))
    groups = collated(tokenizer, source).groups
    assert sorted(groups.score_N.tolist()) == pytest.approx([0.0, 0.2, 0.8, 1.0])
    assert groups.teacher_score_N is not None
    assert bool(groups.teacher_score_N.isnan().all())


def test_a_teacher_grades_nothing(write_lines: WriteLines, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    """Texts, prompts and what a probe says of them are those of the same records without scores."""
    plain = [ir(i, query=["Find", "", f"q {i}"]) for i in range(4)]
    scored = [record | {"positive_scores": [0.1, -7], "negative_scores": [0.9, 12]} for record in plain]
    files = (write_lines(plain, "plain.jsonl"), write_lines(scored, "scored.jsonl"))
    one, other = (collated(tokenizer, source) for source in opened(tmp_path / "cache", *files))
    assert torch.equal(one.texts.input_ids_T, other.texts.input_ids_T)
    assert one.texts[1:] == other.texts[1:]
    torch.manual_seed(0)
    query_BD, document_ND = torch.randn(4, 8), torch.randn(16, 8)
    said = [quality(EmbeddedBatch(query_BD, document_ND, batch.groups)) for batch in (one, other)]
    assert "ndcg@10" in said[0]
    assert said[0] == said[1]


def test_a_run_without_a_teacher_ends_before_its_model_is_loaded(
    write_lines: WriteLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "load_encoder", None)
    file = write_lines([ir(i) for i in range(16)], "bare.jsonl")
    with pytest.raises(UserError, match=r"losses\.ir\.distill_kl: no record of source bare has two scored"):
        golden_run.fit(tmp_path, "losses=distill", f"data.files=[{file},{GOLDEN}/sts.jsonl]")


SCORED = [ir(i, positive_scores=[3, 2], negative_scores=[1, None]) for i in range(3)]
ONE_SIDE = [ir(i, positive_scores=[3, 2]) for i in range(3)]
TOO_FEW = [ir(i, positive_scores=[3, None]) for i in range(3)]
BARE = [ir(i) for i in range(3)]


def check(terms: dict[str, Any], files: Sequence[Path], tmp_path: Path) -> str:
    try:
        check_teachers(
            build_losses({"ir": terms}, has_middle_layer=False), opened(tmp_path / "cache", *files)
        )
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("term", "records", "needs"),
    [
        (KL, BARE, "two scored documents"),
        (KL, TOO_FEW, "two scored documents"),
        (MARGIN, ONE_SIDE, "a scored positive and a scored negative"),
        ({"_target_": "codiemb.losses.Matryoshka", "dims": [8], "loss": KL}, BARE, "two scored documents"),
    ],
    ids=["no scores", "one score a list", "no scored negative", "wrapped"],
)
def test_a_term_that_no_record_teaches_is_refused(
    term: dict[str, Any], records: list[Any], needs: str, write_lines: WriteLines, tmp_path: Path
) -> None:
    message = check({"info_nce": INFO_NCE, "taught": term}, [write_lines(records, "docs.jsonl")], tmp_path)
    assert message == (
        f"losses.ir.taught: no record of source docs has {needs} (positive_scores, negative_scores): "
        "it would be 0. Have a teacher score them, or drop the term"
    )


def test_a_source_without_scores_beside_one_that_has_them_needs_another_term(
    write_lines: WriteLines, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [write_lines(SCORED, "scored.jsonl"), write_lines(ONE_SIDE, "half.jsonl")]
    files.append(write_lines(BARE, "bare.jsonl"))
    with caplog.at_level(logging.WARNING):
        assert check({"info_nce": INFO_NCE, "kl": KL, "margin": MARGIN}, files, tmp_path) == ""
    assert caplog.messages == [
        "losses.ir.margin: no record of source half has a scored positive and a scored negative "
        "(positive_scores, negative_scores): it is 0 there",
        "losses.ir.kl: no record of source bare has two scored documents (positive_scores, negative_scores): "
        "it is 0 there",
        "losses.ir.margin: no record of source bare has a scored positive and a scored negative "
        "(positive_scores, negative_scores): it is 0 there",
    ]
    assert check({"kl": KL, "margin": MARGIN}, files[:2], tmp_path) == ""  # of `half` the one teaches
    assert "no record of source bare" in check({"kl": KL, "margin": MARGIN}, files, tmp_path)
    assert "no record of source bare" in check(
        {"info_nce": INFO_NCE | {"weight": 0}, "kl": KL}, files, tmp_path
    )
    assert check({"info_nce": INFO_NCE, "kl": KL | {"weight": 0}}, files[2:], tmp_path) == ""
