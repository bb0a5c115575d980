"""run_eval.py on folders that others wrote: its score is what their own library's embeddings give."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoTokenizer

from tests.support import tiny
from tests.support.harness import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hugging_face_folder(wordpiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of another vocabulary than the builtin tokenizer's, as transformers saves it."""
    folder = tmp_path_factory.mktemp("theirs") / "bert"
    tiny.untouched(tiny.tiny_encoder("bert", wordpiece)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(wordpiece).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sentence_transformers_folder(hugging_face_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model pooled by its first token, as sentence-transformers saves it, without prompts."""
    folder = tmp_path_factory.mktemp("theirs") / "st"
    transformer = Transformer(str(hugging_face_folder), max_seq_length=48)
    SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode="cls"), Normalize()]).save(str(folder))
    return folder


def sts_score(model: SentenceTransformer, world: Path) -> float:
    lines = (world / "data/builtin/eval/dev/FramesSTS/pairs.jsonl").read_text("utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    left, right = (
        model.encode([pair[side] for pair in pairs], normalize_embeddings=True)
        for side in ("sentence1", "sentence2")
    )
    return float(spearmanr(np.sum(left * right, axis=1), [pair["score"] for pair in pairs]).statistic)


def test_a_hugging_face_folder_gets_its_own_tokenizer_the_mean_and_no_prompt(
    run: Run, world: Path, hugging_face_folder: Path
) -> None:
    transformer = Transformer(str(hugging_face_folder), max_seq_length=128)
    oracle = SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode="mean")])
    assert evaluated(run, world, hugging_face_folder) == pytest.approx(sts_score(oracle, world), abs=1e-4)


def test_a_sentence_transformers_folder_is_evaluated_as_it_states_itself(
    run: Run, world: Path, sentence_transformers_folder: Path
) -> None:
    oracle = SentenceTransformer(str(sentence_transformers_folder))
    assert evaluated(run, world, sentence_transformers_folder) == pytest.approx(
        sts_score(oracle, world), abs=1e-4
    )
    ran = yaml.safe_load((world / "outputs/eval/st/config.yaml").read_text("utf-8"))["model"]
    assert (ran["pooling"], ran["max_tokens"], ran["pool_prompt"]) == ("cls", 48, True)
    record = json.loads((world / "outputs/eval/st/results.json").read_text("utf-8"))
    settings = record["setup"]["settings"]
    assert (settings["pooling"], settings["max_tokens"], settings["dtype"]) == ("cls", 48, "float32")
    assert record["setup"]["seed"] == ran_seed(world)
    assert record["results"][0]["prefix"] == {"text": ""}  # the instruction does not reach any text
    assert record["results"][0]["prompts"]["text"].startswith("Represent")


def ran_seed(world: Path) -> int:
    seed: int = yaml.safe_load((world / "outputs/eval/st/config.yaml").read_text("utf-8"))["seed"]
    return seed


def evaluated(run: Run, world: Path, model: Path) -> float:
    result = run(
        "run_eval.py",
        f"model.path={model}",
        "task.split=dev",
        "task.tasks=[FramesSTS]",
        f"hydra.run.dir=outputs/eval/{model.name}",
    )
    assert result.returncode == 0, result.stderr
    written = json.loads((world / f"outputs/eval/{model.name}/result.json").read_text("utf-8"))
    return written["scores"]["FramesSTS"]
