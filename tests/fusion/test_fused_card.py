"""The model card of a fusion: what was fused, under whose licence, and how the folder embeds."""

import json
import shutil

import pytest
from huggingface_hub import ModelCard, metadata_save

from codiemb.config.fused_card import fused_card, write_fused_card
from codiemb.fusion import FUSION_FILE, FusionSpec, fuse
from tests.support.family import INSTRUCTION


@pytest.fixture
def fusion(family, children, tmp_path):
    return fuse(children, tmp_path / "fused", FusionSpec("delta", scale=0.5), base=family / "base")


def test_it_names_checkpoints_with_their_weights_and_the_prompts_of_the_folder(family, children, fusion):
    write_fused_card(fusion, fused_card(fusion, str(family / "base"), "somebody/model"))
    card = ModelCard.load(fusion / "README.md")
    rows = json.loads((fusion / FUSION_FILE).read_text("utf-8"))["checkpoints"]
    for number, row in enumerate(rows, 1):
        assert f"| checkpoint {number} | `child{number - 1}`, weight {row['weight']:.3f} |" in card.text
    for stated in (
        "Fused from 3 checkpoints by CoDiEmb, stage fuse",
        "| method | delta(exponent=1.0, granularity=row, norm=l2, scale=0.5, scale_exponent=0.0) |",
        "| base | `base` |",
        f"Instruct: {INSTRUCTION}",
        'SentenceTransformer("somebody/model")',
        "Not evaluated.",
    ):
        assert stated in card.text, stated
    assert str(fusion.parent) not in card.text  # a card is read elsewhere
    assert card.data.license == "unknown"


@pytest.mark.parametrize(("second", "licence"), [("mit", "mit"), ("apache-2.0", "unknown"), (None, "mit")])
def test_the_licence_is_the_one_that_all_which_state_any_agree_on(
    children, fusion, tmp_path, second, licence
):
    for number, stated in enumerate(["mit", second]):
        copy = shutil.copytree(children[number], tmp_path / f"child{number}")
        metadata_save(copy / "README.md", {"license": stated or "unknown"})
    record = json.loads((fusion / FUSION_FILE).read_text("utf-8"))
    record["checkpoints"] = [{"path": str(tmp_path / f"child{k}"), "weight": 0.5} for k in (0, 1)]
    (fusion / FUSION_FILE).write_text(json.dumps(record), "utf-8")
    card = fused_card(fusion, None, None)
    assert card.licence == licence
    if second == "apache-2.0":
        assert card.licence_source == "The models that were fused state several: mit, apache-2.0."


def test_a_folder_that_does_not_say_how_it_embeds_gets_no_card(fusion, caplog):
    caplog.set_level("INFO")
    (fusion / "codiemb.json").unlink()
    write_fused_card(fusion, fused_card(fusion, None, None))
    assert not (fusion / "README.md").exists()
    assert "has no codiemb.json, so no model card is written" in caplog.text
