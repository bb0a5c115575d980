"""conf/ composes into configs that pass preflight: every option, every documented command, every override."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_class
from omegaconf import OmegaConf

from codiemb.config import assemble
from codiemb.config.losses import build_losses
from codiemb.config.preflight import preflight
from codiemb.config.schema import EvalConfig, SourceConfig, TrainConfig
from codiemb.config.typed import source_files, typed_eval, typed_train
from codiemb.encoder import LoraSpec, check_spec
from codiemb.errors import UserError
from codiemb.losses import WeightedSum
from tests.support import tiny
from tests.support.paths import CONF

OPTIONS = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]
_DEFAULTS = OmegaConf.load(CONF / "train.yaml").defaults
CHOICES = [(g, o) for g, o in OPTIONS if {g: o} not in _DEFAULTS]  # composing takes 0.3 s
EVALUATED = ("mteb", "youtu_api", "youtu_embedding")  # models that cannot be trained
EVAL_OPTIONS = [(group, option) for group, option in OPTIONS if group in ("model", "task")]
NEEDS = {
    "model": {"pretrained": ["model.path=some/folder"]},
    "data": {"files": ["data.files=[ir.jsonl,sts.jsonl]"]},
    "stage": {"fuse": ["fuse.checkpoints=[a,b]", "fuse.base=c"]},
    "losses": {"lm": ["stage=pretrain"]},
    "sampler": {"weights": ["sampler.weights={docs_ir: 2, frames_ir: 1, frames_sts: 1}"]},
    "experiment": {name: ["data.files=[ir.jsonl]"] for name in ("gte", "nv_retriever", "matryoshka")},
}


@pytest.fixture
def train(composed):
    """Compose, type and check a training config, as run_train.py does."""

    def check(*overrides: str) -> TrainConfig:
        cfg = typed_train(composed(*overrides))
        preflight(cfg)
        return cfg

    return check


# Every option and every documented command


def test_the_options_were_found():
    assert len(CHOICES) > 25
    assert {"model", "data", "losses", "sampler", "stage", "trainer", "task"} <= {g for g, _ in OPTIONS}


@pytest.mark.parametrize(("group", "option"), CHOICES, ids=map("=".join, CHOICES))
def test_every_option_of_every_group_composes_for_training_and_passes_preflight(train, group, option):
    if group == "model" and option in EVALUATED:
        with pytest.raises(UserError, match="can be evaluated, not trained"):
            train(f"model={option}")
        return
    cfg = train(f"{group}={option}", *NEEDS.get(group, {}).get(option, []))
    assert isinstance(cfg, TrainConfig)
    assert cfg.fuse is not None or source_files(cfg.data)  # fusing reads no data


@pytest.mark.parametrize(("group", "option"), EVAL_OPTIONS, ids=map("=".join, EVAL_OPTIONS))
def test_every_model_and_task_composes_for_evaluation(composed, group, option):
    cfg = typed_eval(composed(f"{group}={option}", *NEEDS.get(group, {}).get(option, []), root="eval"))
    assert isinstance(cfg, EvalConfig)
    if cfg.model.loader == "codiemb":
        check_spec(cfg.model)
    assert getattr(cfg, group).name == ("" if option == "mteb" and group == "model" else option)


def test_minilm_is_the_folder_that_data_prep_makes_or_the_hubs(composed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert composed("model=minilm").model.path == "sentence-transformers/all-MiniLM-L6-v2"
    (tmp_path / "data/minilm").mkdir(parents=True)
    assert composed("model=minilm").model.path == "sentence-transformers/all-MiniLM-L6-v2"  # empty
    (tmp_path / "data/minilm/config.json").touch()
    assert composed("model=minilm").model.path == "data/minilm"
    assert composed("model=minilm", "model.path=else/where").model.path == "else/where"


def test_a_slurm_job_has_a_task_for_every_device():
    devices = ["trainer.devices=8", "trainer.num_nodes=2"]
    overrides = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", *devices]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        launcher = compose("train", overrides, return_hydra_config=True).hydra.launcher
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node) == (2, 8, 8)
    assert launcher.partition == "gpu"
    assert get_class(launcher._target_).__name__ == "SlurmLauncher"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "stage=finetune model=youtu_tiny data=builtin",
        "stage=finetune model=youtu2b data=cmteb strategy=ddp trainer.devices=8",
        "data=files data.files=[ir.jsonl,sts.jsonl] model.path=/some/hf/folder",
        "debug=default",
        "logger=local callbacks.checkpoint=null",
        "seed=3 epochs=0.5 max_steps=100 tasks.ir.global_batch_size=128",
        "stage=pretrain",
        "stage=pretrain model=youtu2b data=files data.files=[raw.jsonl]",
        "stage=pretrain model.attention=causal tasks.lm.mask_share=null",
        "stage=align model.path=outputs/pretrain/export",
        "stage=align data=files data.files=[pairs.jsonl] tasks.ir.global_batch_size=4096",
        "stage=finetune data=builtin_all model.path=outputs/align/export",
    ],
)
def test_what_a_user_types_to_train_composes(train, command):
    assert train(*command.split()).model.architecture


@pytest.mark.parametrize(
    "command",
    ["task=builtin model.path=outputs/finetune/export", "task=cmteb model.path=tencent/Youtu-Embedding"],
)
def test_what_a_user_types_to_evaluate_composes(composed, command):
    assert typed_eval(composed(*command.split(), root="eval")).model.path


def test_sweep_overrides_fan_out_over_seeds_and_loss_weights(train):
    seeds, weights = OverridesParser.create().parse_overrides(
        ["seed=1,2,3", "losses.sts.rank_kl.weight=0,0.15"]
    )
    jobs = [
        (seed, weight) for seed in seeds.sweep_string_iterator() for weight in weights.sweep_string_iterator()
    ]
    assert len(jobs) == 6
    for seed, weight in jobs:
        cfg = train(f"seed={seed}", f"losses.sts.rank_kl.weight={weight}")
        assert cfg.seed == int(seed)
        losses = build_losses(cfg.losses, has_middle_layer=True)
        assert isinstance(losses["sts"], WeightedSum)
        assert losses["sts"].weights["rank_kl"] == float(weight)


# What overrides what


@pytest.fixture
def experiment(conf_copy, train):
    """Write an experiment file into a copy of conf/ and compose with it."""

    def run(text: str, *overrides: str) -> TrainConfig:
        (conf_copy / "experiment" / "mine.yaml").write_text("# @package _global_\n" + text, "utf-8")
        return train("experiment=mine", *overrides)

    return run


EXPERIMENT = """
defaults:
  - override /losses: infonce_cosent
  - override /model: bert_tiny
seed: 7
epochs: 2.5
tasks:
  ir: {global_batch_size: 16, num_negatives: 3}
trainer: {precision: bf16-mixed}
optimizer: {lr: 0.5}
data:
  sources: {frames_ir: {path: other.jsonl}}
"""


def test_an_experiment_overrides_every_group(experiment):
    cfg = experiment(EXPERIMENT)
    assert (cfg.seed, cfg.epochs, cfg.model.name) == (7, 2.5, "bert_tiny")
    assert (cfg.tasks["ir"].global_batch_size, cfg.tasks["ir"].num_negatives) == (16, 3)
    assert cfg.tasks["sts"].global_batch_size == 32
    assert list(cfg.losses["sts"]) == ["cosent"]
    assert cfg.trainer["precision"] == "bf16-mixed"
    assert cfg.optimizer["lr"] == 0.5
    assert cfg.data.sources["frames_ir"].path == "other.jsonl"
    assert len(cfg.data.sources) == 3


def test_the_command_line_overrides_an_experiment(experiment):
    cfg = experiment(EXPERIMENT, "seed=8", "model=qwen3_tiny", "tasks.ir.num_negatives=0", "losses=codiemb")
    assert (cfg.seed, cfg.model.name, cfg.tasks["ir"].num_negatives) == (8, "qwen3_tiny", 0)
    assert list(cfg.losses["sts"]) == ["pearson", "rank_kl", "pro", "mid_nce"]


def test_defaults_follow_the_model_and_the_data(train):
    cfg = train()
    assert (cfg.epochs, cfg.tasks["ir"].max_query_tokens, cfg.tasks["ir"].num_positives) == (0.4, 64, 1)
    assert cfg.optimizer["lr"] == cfg.model.learning_rate == 1e-3
    cfg = train("data=cmteb", "model=bge_large_zh")
    assert (cfg.epochs, cfg.tasks["ir"].max_query_tokens, cfg.tasks["ir"].num_positives) == (4, 512, 2)
    assert cfg.optimizer["lr"] == 5e-5
    assert train("stage=pretrain").optimizer["lr"] == 2e-4
    assert train("stage=pretrain", "model.learning_rate=1e-5").optimizer["lr"] == 1e-5


# Stages


def test_every_stage_brings_its_tasks_losses_and_the_sources_of_the_builtin_data(train):
    sources = {
        "pretrain": ["docs_lm", "frames_lm"],
        "align": ["docs_name", "docs_body", "docs_methods", "frames_pairs"],
        "finetune": ["docs_ir", "frames_ir", "frames_sts"],
    }
    for stage, names in sources.items():
        cfg = train(f"stage={stage}")
        assert cfg.stage == stage
        assert list(cfg.data.sources) == names
        assert set(cfg.tasks) <= set(cfg.losses)
        assert set(cfg.tasks) == {"pretrain": {"lm"}, "align": {"ir"}, "finetune": {"ir", "sts"}}[stage]


def test_own_files_take_the_place_of_the_builtin_sources_in_every_stage(train):
    for stage in ("pretrain", "align", "finetune"):
        data = train(f"stage={stage}", "data=files", "data.files=[a.jsonl]").data
        assert [file.name for file in source_files(data)] == ["a"]


def test_alignment_mixes_by_size_unless_told_otherwise_and_has_no_hard_negatives(train):
    cfg = train("stage=align")
    assert cfg.sampler["_target_"] == "codiemb.data.SizePower"
    assert cfg.tasks["ir"].num_negatives == 0
    assert cfg.encoder.max_tokens_per_chunk
    assert train("stage=align", "sampler=alternate").sampler["_target_"] == "codiemb.data.Alternate"


def test_an_experiment_overrules_what_a_stage_chooses(experiment):
    text = "defaults:\n  - override /stage: align\n  - override /sampler: alternate\nepochs: 3\n"
    cfg = experiment(text)
    assert (cfg.stage, cfg.epochs, cfg.sampler["_target_"]) == ("align", 3, "codiemb.data.Alternate")
    assert "docs_name" in cfg.data.sources


# Model and data from the command line


def test_lora_is_off_unless_asked_for(train, composed):
    assert train().model.lora.r == 0
    assert train("model=youtu2b").model.lora.r == 0
    assert typed_eval(composed(root="eval")).model.lora.r == 0


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.lora.r=8"], LoraSpec(r=8)),
        (["model.lora={r: 8}"], LoraSpec(r=8)),
        (["model=youtu2b", "model.lora={r: 8, lora_alpha: 16}"], LoraSpec(r=8, lora_alpha=16)),
        (["model.lora.r=4", "model.lora.target_modules=q_proj"], LoraSpec(r=4, target_modules="q_proj")),
    ],
)
def test_lora_is_switched_on_from_the_command_line(train, overrides, expected):
    assert train(*overrides).model.lora == expected


def test_an_experiment_switches_lora_on(experiment):
    assert experiment("model: {lora: {r: 4}}").model.lora == LoraSpec(r=4)


def test_files_are_named_after_themselves_and_share_a_score_range(train):
    data = train("data=files", "data.files=[a/ir.jsonl,b/sts.jsonl]", "data.score_range=[0,5]").data
    files = source_files(data)
    assert [(file.name, str(file.path), file.score_range) for file in files] == [
        ("ir", "a/ir.jsonl", (0.0, 5.0)),
        ("sts", "b/sts.jsonl", (0.0, 5.0)),
    ]


def test_a_builtin_source_can_be_taken_out_and_another_put_in(train):
    overrides = ["~data.sources.frames_sts", "+data.sources.mine.path=mine.jsonl"]
    sources = train(*overrides, "+data.sources.mine.score_range=[0,5]").data.sources
    assert list(sources) == ["docs_ir", "frames_ir", "mine"]
    assert sources["mine"] == SourceConfig("mine.jsonl", [0.0, 5.0])


def test_a_builtin_source_can_be_pointed_elsewhere(train):
    data = train("data.sources.frames_sts.path=x.jsonl", "data.sources.frames_sts.score_range=[1,2]").data
    assert data.sources["frames_sts"] == SourceConfig("x.jsonl", [1.0, 2.0])


def test_a_term_a_callback_and_a_logger_can_be_switched_off(train):
    cfg = train("~losses.sts.pro", "callbacks.speed=null", "logger.wandb=null")
    assert "pro" not in build_losses(cfg.losses, has_middle_layer=True)["sts"].terms
    assert cfg.callbacks["speed"] is cfg.logger["wandb"] is None


def test_only_the_named_parameters_are_trained_and_a_name_that_is_none_is_refused(byte_level):
    encoder = tiny.tiny_encoder("youtu", byte_level)
    assemble._freeze_all_but("embed_tokens", encoder)
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert trained == ["backbone.embed_tokens.weight"]
    with pytest.raises(UserError, match="train_only='embeddings' occurs in no parameter's name"):
        assemble._freeze_all_but("embeddings", encoder)


def test_a_loss_that_does_not_fit_the_embeddings_is_refused_by_its_key(train, byte_level):
    encoder = tiny.tiny_encoder("youtu", byte_level)
    width = encoder.backbone.config.hidden_size
    matryoshka = (
        "losses.ir.info_nce._target_=codiemb.losses.Matryoshka",
        "~losses.ir.info_nce.temperature",
        "+losses.ir.info_nce.loss={_target_: codiemb.losses.InfoNCE}",
    )

    def build(dims: str) -> None:
        cfg = train(*matryoshka, f"+losses.ir.info_nce.dims=[{dims}]")
        assemble.build_module(cfg, preflight(cfg), encoder, cfg.model)

    build(f"{width}")
    with pytest.raises(UserError, match=r"losses\.ir\.info_nce: Matryoshka dims \[\d+\] exceed"):
        build(f"{width + 1}")
