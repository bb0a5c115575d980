"""A card is written when a run has trained: it must be able to say whatever a config can hold."""

from codiemb.config.model_card import as_call


def test_arguments_may_be_mappings_and_losses():
    share = {"_target_": "codiemb.data.Weights", "weights": {"ir": 25, "sts": 75}}
    assert as_call(share) == "Weights(weights={'ir': 25, 'sts': 75})"
    inner = {"_target_": "codiemb.losses.InfoNCE", "temperature": 0.1}
    outer = {"_target_": "codiemb.losses.Matryoshka", "weight": 2.0, "loss": inner, "dims": [8, 16]}
    assert as_call(outer) == "Matryoshka(loss=InfoNCE(temperature=0.1), dims=[8, 16])"
