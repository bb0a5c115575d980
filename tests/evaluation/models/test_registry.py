"""Models of mteb's registry: their own loader and prompts, and a record of what stood before the texts."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mteb.models.model_implementations import MODEL_REGISTRY
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from torch.nn import Identity
from transformers import AutoTokenizer

from codiemb.config.eval_model import build_encoder
from codiemb.config.schema import EvalConfig
from codiemb.encoder import ModelSpec
from codiemb.errors import UserError
from codiemb.evaluation import Evaluator, builtin_tasks
from codiemb.evaluation.models import registry
from codiemb.evaluation.models.names import check_name
from codiemb.evaluation.models.registry import RegistryEncoder, find_model, load_registry
from codiemb.mteb_source import model_names
from tests.support import tiny
from tests.support.evaluation_fakes import write_builtin_data

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
QUERY = "Instruct: Find it\nQuery: "


@pytest.fixture(scope="module")
def folder(wordpiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder with prompts, and a Dense module that our own encoder refuses."""
    root = tmp_path_factory.mktemp("theirs")
    tiny.untouched(tiny.tiny_encoder("bert", wordpiece)).save_pretrained(root / "bert")
    AutoTokenizer.from_pretrained(wordpiece).save_pretrained(root / "bert")
    dense = Dense(32, 24, bias=False, activation_function=Identity())
    model = SentenceTransformer(
        modules=[Transformer(str(root / "bert"), max_seq_length=48), Pooling(32, pooling_mode="mean"), dense],
        prompts={"query": QUERY, "document": "", "STS": "Same? "},
    )
    model.save(str(root / "st"))
    return root / "st"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write_builtin_data(path)
    return path


def evaluator(data: Path, *names: str) -> Evaluator:
    tasks = [task for task in builtin_tasks(data, "test") if task.metadata.name in names]
    return Evaluator(tasks, {"FramesRetrieval": {"query": "not mteb's"}})


def encoder_at(path: Path, name: str = MINILM, **settings: object) -> RegistryEncoder:
    spec = ModelSpec(loader="mteb", name=name, path=str(path), **settings)  # type: ignore[arg-type]
    return build_encoder(EvalConfig(model=spec))  # type: ignore[return-value]


def test_a_registry_model_embeds_as_mteb_has_it_and_the_exact_prompts_are_recorded(folder, data) -> None:
    """The entry of the registry is the real one; its weights are those of the folder."""
    encoder = encoder_at(folder)
    ours = evaluator(data, "FramesRetrieval", "FramesSTS")
    evaluation = ours.run(encoder)
    sides = {result.task: result.prefix for result in evaluation.results}
    assert sides == {"FramesRetrieval": {"query": QUERY, "document": ""}, "FramesSTS": {"text": "Same? "}}
    rows = [json.loads(line) for line in (data / "eval/test/FramesSTS/pairs.jsonl").read_text().splitlines()]
    theirs = SentenceTransformer(str(folder))
    left, right = (
        theirs.encode([row[side] for row in rows], prompt="Same? ", normalize_embeddings=True)
        for side in ("sentence1", "sentence2")
    )
    from scipy.stats import spearmanr

    expected = spearmanr((left * right).sum(1), [row["score"] for row in rows]).statistic
    assert evaluation.scores["FramesSTS"] == pytest.approx(expected, abs=1e-4)
    settings = evaluation.setup.settings
    assert settings["loader"] == "mteb SentenceTransformerEncoderWrapper"
    assert (settings["name"], settings["max_tokens"]) == (MINILM, 48)


def test_results_of_a_run_that_was_stopped_are_kept(folder, data) -> None:
    first = evaluator(data, "FramesSTS").run(encoder_at(folder))
    lines: list[str] = []
    again = evaluator(data, "FramesSTS").run(encoder_at(folder), earlier=first, report=lines.append)
    assert again.results == first.results
    assert lines == ["kept: FramesSTS " + f"{100 * first.scores['FramesSTS']:.2f}"]


def test_a_loader_with_prompts_by_task_is_recorded_as_it_used_them(folder, data) -> None:
    """Youtu-Embedding's entry: an instruction template of its own, none for documents."""
    encoder = load_registry("tencent/Youtu-Embedding", str(folder), "cpu", trust_remote_code=True)
    evaluation = evaluator(data, "FramesRetrieval").run(encoder)
    prefix = evaluation.results[0].prefix
    assert prefix["document"] == ""
    assert prefix["query"].startswith("Instruction: ")
    assert prefix["query"].endswith(" \nQuery: ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"model=mteb needs model\.name=OWNER/NAME"),
        ("Qwen/Qwen3-Embeding-4B", r"not in the registry of mteb .*did you mean .*Qwen/Qwen3-Embedding-4B"),
        ("qwen3-embedding-0.6b", r"did you mean Qwen/Qwen3-Embedding-0\.6B"),
        ("BAAI/bge-reranker-v2-m3", r"is a cross-encoder model; run_eval\.py scores models with one vector"),
        ("facebook/dinov2-small", r"reads image, no text"),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_name(name, None, trust_remote_code=False)
    if name:
        with pytest.raises(UserError, match=message):  # by mteb itself, as well
            find_model(name)


def test_what_the_source_code_refuses_mteb_refuses_too() -> None:
    """The other way round it may let through: mteb is asked afterwards."""
    said = {name: _refusal(check_name, name, None, trust_remote_code=True) for name in MODEL_REGISTRY}
    refused = {name: text for name, text in said.items() if text and "local cache" not in text}
    assert MODEL_REGISTRY.keys() <= model_names().keys()
    assert len(refused) > 100
    assert refused == {name: _refusal(find_model, name) for name in refused}


def _refusal(check: Callable[..., object], *arguments: object, **options: object) -> str:
    try:
        check(*arguments, **options)
    except UserError as error:
        return str(error)
    return ""


def test_without_the_hub_a_model_that_is_not_cached_is_one_error_in_seconds(monkeypatch) -> None:
    """A hub that takes the connection and says nothing, as behind some firewalls."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("codiemb.hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr("codiemb.hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("codiemb.hub.TIMEOUT_SECONDS", 0.2)
        started = time.perf_counter()
        with pytest.raises(UserError, match="not in the local cache, and the hub cannot be reached"):
            build_encoder(EvalConfig(model=ModelSpec(loader="mteb", name="Qwen/Qwen3-Embedding-4B")))
        assert time.perf_counter() - started < 5


def test_code_of_a_model_runs_only_where_it_is_allowed(folder) -> None:
    with pytest.raises(UserError, match=r"brings its own Python code; .*model\.trust_remote_code=true"):
        encoder_at(folder, "tencent/Youtu-Embedding")


def test_a_folder_that_is_no_copy_and_a_loader_that_fails_are_one_error_each(folder, tmp_path) -> None:
    with pytest.raises(UserError, match=r"model\.path=.* must be a folder with a copy of sentence-tr"):
        encoder_at(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=f"{MINILM}: mteb's loader fails: "):
        encoder_at(tmp_path)


def test_most_of_the_registry_can_be_asked_for() -> None:
    """Those that cannot are of another kind, or have no loader."""
    refused = []
    for name in MODEL_REGISTRY:
        try:
            find_model(name)
        except UserError as error:
            refused.append(str(error))
    assert 0 < len(refused) < len(MODEL_REGISTRY) / 2
    assert all(any(part in each for part in ("vector a text", "no text", "no loader")) for each in refused)


def test_what_a_model_without_a_tokenizer_of_ours_puts_before_texts_is_not_made_up(data) -> None:
    class Api:
        mteb_model_meta = find_model(MINILM)

        def encode(self, inputs, **_: object) -> np.ndarray:
            return np.ones((len(inputs.dataset), 3), dtype=np.float32)

        similarity = similarity_pairwise = encode

    encoder = RegistryEncoder(Api(), Api.mteb_model_meta)  # type: ignore[arg-type]
    task = evaluator(data, "FramesSTS").tasks[0]
    assert encoder.instruction(task.metadata, "text") == registry.UNSEEN
