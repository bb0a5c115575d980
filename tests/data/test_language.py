"""Batches of raw text: windows, masks and targets, as a pure function of (seed, epoch, example)."""

from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from codiemb.batch import LanguageBatch
from codiemb.data import Alternate, Collator, PlannedBatches, Record, SourceFile, TaskSpec, Text, convert
from codiemb.data.plan import Plan, PlannedSource
from codiemb.data.source import open_sources
from codiemb.encoder.tokenization import PromptTemplate, TextTokenizer
from codiemb.errors import UserError

LONG = " ".join(f"the bank opens at {i} and closes" for i in range(60))


def collate(
    tokenizer: TextTokenizer, texts: list[str], *, seed=1, epoch=0, indices=None, **spec
) -> LanguageBatch:
    indices = list(range(len(texts))) if indices is None else indices
    spec = {"max_document_tokens": 32, "mask_share": 0.2} | spec
    records = [Record("lm", Text("", text), [], [], [], []) for text in texts]
    batch = Collator(tokenizer, {"lm": TaskSpec(**spec)}, seed)(
        records, source="s", epoch=epoch, indices=indices
    )
    assert isinstance(batch, LanguageBatch)
    return batch


def sequences(batch: LanguageBatch) -> list[list[int]]:
    return [part.tolist() for part in batch.texts.input_ids_T.split(list(batch.texts.sequence_lengths))]


def unmasked(batch: LanguageBatch) -> list[list[int]]:
    """The sequences with every target put back in the place behind its predictor."""
    ids_T = batch.texts.input_ids_T.clone()
    ids_T[batch.predictor_P + 1] = batch.target_P
    return [part.tolist() for part in ids_T.split(list(batch.texts.sequence_lengths))]


def equal(a: LanguageBatch, b: LanguageBatch) -> bool:
    tensors = ((x.texts.input_ids_T, x.predictor_P, x.target_P) for x in (a, b))
    return a.texts[1:] == b.texts[1:] and all(map(torch.equal, *tensors))


# Windows


def test_the_windows_of_a_long_text_are_all_of_its_tokens_cut_at_the_limit(tokenizer):
    ids = tokenizer.hf(LONG)["input_ids"]
    batch = collate(tokenizer, [LONG], mask_share=None)
    assert len(ids) > 200
    assert sorted(batch.texts.sequence_lengths) == list(batch.texts.sequence_lengths)
    assert max(batch.texts.sequence_lengths) == 32
    expected = [ids[i : i + 32] for i in range(0, len(ids), 32)]
    assert sorted(sequences(batch)) == sorted(expected)


@pytest.fixture
def wordpieces(wordpiece) -> TextTokenizer:
    """BERT's kind: special tokens around a text, and no mask token in ours, so that "_" stands in."""
    hf = AutoTokenizer.from_pretrained(wordpiece)
    hf.add_tokens(["_"])
    return TextTokenizer(hf, PromptTemplate("", ""))


def test_a_window_has_the_special_tokens_that_the_tokenizer_puts_around_a_text(wordpieces):
    batch = collate(wordpieces, [LONG], mask_share=0.5)
    assert len(batch.texts.sequence_lengths) > 3
    for ids in unmasked(batch):
        assert [ids[0], ids[-1]] == wordpieces.hf.convert_tokens_to_ids(["[CLS]", "[SEP]"])
        assert len(ids) <= 32


def test_special_tokens_are_never_masked(wordpieces):
    batch = collate(wordpieces, [LONG], mask_share=1.0)
    assert not {2, 3} & set(batch.target_P.tolist())
    assert len(batch.target_P) == len(batch.texts.input_ids_T) - 2 * len(batch.texts.sequence_lengths)


def test_a_tokenizer_without_a_mask_token_masks_with_an_underscore_or_says_so(wordpiece, wordpieces):
    batch = collate(wordpieces, [LONG])
    assert set(batch.texts.input_ids_T[batch.predictor_P + 1].tolist()) == {
        wordpieces.hf.convert_tokens_to_ids("_")
    }
    without = TextTokenizer(AutoTokenizer.from_pretrained(wordpiece), PromptTemplate("", ""))
    without.hf.add_tokens(["__"])
    with pytest.raises(UserError, match="has no mask token"):
        collate(without, ["the bank"])


def test_at_most_so_many_windows_are_drawn_and_other_ones_in_another_epoch(tokenizer):
    everything = Counter(map(tuple, unmasked(collate(tokenizer, [LONG]))))
    seen = Counter()
    for epoch in range(30):
        batch = collate(tokenizer, [LONG], num_windows=3, epoch=epoch)
        assert len(batch.texts.sequence_lengths) == 3
        assert not Counter(map(tuple, unmasked(batch))) - everything  # none is drawn twice
        seen.update(map(tuple, unmasked(batch)))
    assert set(seen) == set(everything)


def test_a_limit_without_room_for_text_is_an_error_that_names_the_key(wordpieces):
    with pytest.raises(UserError, match=r"tasks\.lm\.max_document_tokens=2 leaves no room"):
        collate(wordpieces, ["the bank"], max_document_tokens=2, mask_share=None)


def test_a_text_without_a_token_is_one_blank_window_without_targets(tokenizer):
    batch = collate(tokenizer, ["", "a"])
    assert batch.texts.sequence_lengths == (1, 1)
    assert len(batch.target_P) == 0


# Targets


def test_next_token_prediction_predicts_every_token_but_the_first_of_each_window(tokenizer):
    batch = collate(tokenizer, [LONG, "how do I return a broken kettle?"], mask_share=None)
    starts = torch.tensor([0, *batch.texts.sequence_lengths]).cumsum(0)[:-1]
    places = set(range(len(batch.texts.input_ids_T))) - set(starts.tolist())
    assert set((batch.predictor_P + 1).tolist()) == places
    assert torch.equal(batch.target_P, batch.texts.input_ids_T[batch.predictor_P + 1])
    assert batch.mean_targets == len(places)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.01, 1.0), words=st.integers(1, 90), seed=st.integers(0, 5))
def test_the_state_before_a_masked_token_predicts_it(tokenizer, share, words, seed):
    text = " ".join(LONG.split()[:words])
    batch = collate(tokenizer, [text], mask_share=share, seed=seed)
    plain = collate(tokenizer, [text], mask_share=None, seed=seed)
    assert unmasked(batch) == sequences(plain)
    masked = (batch.texts.input_ids_T != plain.texts.input_ids_T).nonzero().squeeze(1)
    assert masked.tolist() == (batch.predictor_P + 1).tolist()
    assert set(batch.texts.input_ids_T[masked].tolist()) <= {tokenizer.hf.mask_token_id}
    lengths = [length - 1 for length in batch.texts.sequence_lengths if length > 1]
    assert len(masked) == sum(max(1, round(share * length)) for length in lengths)


def test_a_mask_predicts_the_token_it_hides_the_first_one_too(tokenizer):
    plain = collate(tokenizer, [LONG], mask_share=None).texts.input_ids_T
    batch = collate(tokenizer, [LONG], mask_share=1.0, predict_from="mask")
    assert set(batch.texts.input_ids_T.tolist()) == {tokenizer.hf.mask_token_id}
    assert batch.predictor_P.tolist() == list(range(len(plain)))
    assert torch.equal(batch.target_P, plain)
    some = collate(tokenizer, [LONG], mask_share=0.3, predict_from="mask")
    assert set(some.texts.input_ids_T[some.predictor_P].tolist()) == {tokenizer.hf.mask_token_id}
    assert torch.equal(some.target_P, plain[some.predictor_P])


def test_what_an_embedding_predicts_is_left_out_of_the_text_in_its_order(tokenizer):
    text = "how do I return a broken kettle?"
    ids = tokenizer.hf(text)["input_ids"]
    batch = collate(tokenizer, [text, LONG], mask_share=0.3, predict_from="embedding", num_windows=1)
    assert batch.from_embedding
    kept, predictors = sequences(batch), batch.predictor_P.tolist()
    assert sorted(set(predictors)) == [0, len(kept[0])]  # the first place of each window
    mine = batch.target_P[batch.predictor_P == 0].tolist()
    assert len(mine) == round(0.3 * len(ids))
    assert Counter(kept[0]) + Counter(mine) == Counter(ids)
    rest = iter(ids)
    assert all(token in rest for token in kept[0])  # a subsequence
    assert not collate(tokenizer, ["a"], predict_from="embedding").target_P.numel()  # one token must stay


def test_over_epochs_every_token_is_masked_equally_often(tokenizer):
    counts = Counter()
    for epoch in range(400):
        counts.update(
            (collate(tokenizer, ["how do I return a broken kettle?"], epoch=epoch).predictor_P + 1).tolist()
        )
    (length,) = collate(tokenizer, ["how do I return a broken kettle?"]).texts.sequence_lengths
    assert set(counts) == set(range(1, length))
    expected = sum(counts.values()) / (length - 1)
    assert all(0.7 * expected < count < 1.3 * expected for count in counts.values())


def test_windows_and_masks_are_a_function_of_seed_epoch_and_example_only(tokenizer):
    texts = [LONG[i * 7 :] for i in range(5)]
    alone = collate(tokenizer, [texts[3]], indices=[3], num_windows=2)
    together = collate(tokenizer, texts, num_windows=2)
    assert all(row in sequences(together) for row in sequences(alone))
    assert equal(alone, collate(tokenizer, [texts[3]], indices=[3], num_windows=2))
    for other in ({"seed": 2}, {"epoch": 1}, {"indices": [4]}):
        assert not equal(alone, collate(tokenizer, [texts[3]], num_windows=2, **({"indices": [3]} | other)))


# Accumulation


@pytest.fixture
def make_batches(write_lines, tmp_path, tokenizer):
    def make(**options) -> PlannedBatches:
        lines = [{"task_type": "lm", "text": LONG[: 20 + 37 * i]} for i in range(24)]
        files = [SourceFile("raw", write_lines(lines))]
        convert(files, tmp_path / "cache", skip_bad=False)
        plan = Plan([PlannedSource("raw", "lm", 24, 8)], Alternate(), seed=3)
        tasks = {"lm": TaskSpec(8, max_document_tokens=32, mask_share=0.3)}
        sources = open_sources(files, tmp_path / "cache")
        return PlannedBatches(sources, plan, Collator(tokenizer, tasks, 3), num_batches=3, **options)

    return make


def test_every_micro_batch_knows_the_mean_number_of_targets_of_its_step(make_batches):
    whole = make_batches()
    for rank in range(2):
        parts = make_batches(rank=rank, num_ranks=2, accumulation=2)
        for step in range(3):
            micro = [parts[2 * step], parts[2 * step + 1]]
            counts = [len(batch.target_P) for batch in micro]
            assert counts[0] != counts[1]
            assert [batch.mean_targets for batch in micro] == [sum(counts) / 2] * 2
    for step in range(3):
        shares = [
            make_batches(rank=r, num_ranks=2, accumulation=2)[2 * step + a]
            for r in range(2)
            for a in range(2)
        ]
        rows = [row for share in shares for row in sequences(share)]
        assert sorted(rows) == sorted(sequences(whole[step]))
        assert sum(share.mean_targets for share in shares) == whole[step].mean_targets
