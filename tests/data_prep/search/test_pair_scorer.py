"""A cross-encoder's scores: of every pair, in order, and never those of other weights."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from codiemb.errors import UserError
from data_prep.search.pair_scorer import cross_encoder_scores, load_cross_encoder
from tests.support import tiny

PAIRS = [(query, document) for query in tiny.SENTENCES[:3] for document in tiny.SENTENCES]


@pytest.fixture(params=[1])
def folder(request, wordpiece, tmp_path):
    return saved(tmp_path / "cross", wordpiece, request.param)


def saved(path, tokenizer, labels, seed=0):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(tokenizer)),
        num_labels=labels,
        **{key: value for key, value in tiny.ARCHITECTURES["bert"].items() if key != "model_type"},
    )
    BertForSequenceClassification(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(path)
    return path


def test_every_pair_has_the_models_own_score_in_order(folder, tmp_path):
    model = load_cross_encoder(str(folder))
    scores = cross_encoder_scores(tmp_path / "kept", PAIRS, model, rows_per_shard=7)
    alone = [float(model.predict([pair], show_progress_bar=False)[0]) for pair in PAIRS]
    np.testing.assert_allclose(scores, alone, atol=1e-6)
    assert len(set(alone)) > len(alone) // 2  # they tell pairs apart, so that order shows


def test_scores_are_kept_and_those_of_other_weights_or_texts_refused(
    folder, wordpiece, tmp_path, monkeypatch
):
    scores = cross_encoder_scores(tmp_path / "kept", PAIRS, load_cross_encoder(str(folder)))
    same, shorter = load_cross_encoder(str(folder)), load_cross_encoder(str(folder), max_tokens=16)
    other = load_cross_encoder(str(saved(folder, wordpiece, 1, seed=1)))
    monkeypatch.setattr(type(same), "predict", None)
    np.testing.assert_array_equal(cross_encoder_scores(tmp_path / "kept", PAIRS, same), scores)
    with pytest.raises(UserError, match=r"cross_encoder\.weights: "):
        cross_encoder_scores(tmp_path / "kept", PAIRS, other)
    with pytest.raises(UserError, match=r"cross_encoder\.max_tokens: "):
        cross_encoder_scores(tmp_path / "kept", PAIRS, shorter)
    with pytest.raises(UserError, match="texts: "):
        cross_encoder_scores(tmp_path / "kept", PAIRS[::-1], same)


@pytest.mark.parametrize("folder", [3], indirect=True)
def test_a_classifier_of_pairs_is_no_scorer(folder):
    with pytest.raises(UserError, match="3 scores"):
        load_cross_encoder(str(folder))


def test_a_scorer_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(UserError, match="nothing_here"):
        load_cross_encoder(str(tmp_path / "nothing_here"))
