"""Published recipes, their debug twins, and the laboratory's arms: all compose and pass preflight."""

import json
import re
from dataclasses import asdict
from typing import Any

import pytest
from omegaconf import OmegaConf

from codiemb.config.preflight import preflight
from codiemb.config.typed import source_files, typed_train
from experiments.laboratory import forgetting
from experiments.laboratory.arms import ARMS, EXPERIMENT, FUSION, START
from tests.support.paths import CONF, ROOT
from tests.support.recipes import RECIPES

FILES = "data.files=[mine.jsonl]"  # of recipes that have none of their own
ARE_NONE = {
    "first",
    "first_tiny",
    "laboratory",
    "cosent_baseline",
    "paper/released",
}  # ours, and one without numbers


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """Leaves by their dotted keys."""
    if not isinstance(node, dict):
        return {path: node}
    return {
        key: leaf
        for name, inner in node.items()
        for key, leaf in flat(inner, f"{path}.{name}".removeprefix(".")).items()
    }


@pytest.fixture
def recipe(composed):
    """Compose a recipe, resolved and checked, as its leaves by key."""

    def leaves(name: str, *overrides: str) -> dict[str, Any]:
        cfg = composed(f"experiment={name}", *overrides)
        typed = typed_train(cfg)
        preflight(typed)
        assert source_files(typed.data)
        return flat(OmegaConf.to_container(cfg, resolve=True))

    return leaves


def test_every_experiment_is_a_recipe_or_known_to_be_none():
    names = {str(path.relative_to(CONF / "experiment")) for path in CONF.glob("experiment/**/*.yaml")}
    assert names == {f"{name}.yaml" for name in {*RECIPES, *ARE_NONE}}


# What they say


def published() -> list[list[str]]:
    """The table of docs/method.md section 6, its rows without their names: BGE and E5, MiniCPM and Youtu."""
    section = (ROOT / "docs/method.md").read_text("utf-8").partition("## 6.")[2].partition("## 7.")[0]
    lines = re.findall(r"^\|.*\|$", section, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:]]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("paper/bge_large_zh", 0),
        ("paper/e5_large_instruct", 0),
        ("paper/minicpm", 1),
        ("youtu2b/finetune", 1),
    ],
)
def test_a_published_run_has_the_published_numbers(recipe, name, column):
    cfg = recipe(name)
    rate, epochs, batches, tokens, precision = [cells[column] for cells in published()]
    gpus = cfg["trainer.devices"]
    assert cfg["optimizer.lr"] == float(rate)
    assert cfg["epochs"] == float(epochs)
    assert [cfg[f"tasks.{task}.global_batch_size"] / gpus for task in ("ir", "sts")] == [
        int(batch) for batch in batches.split(" / ")
    ]
    lengths = {value for key, value in cfg.items() if re.fullmatch(r"tasks\..*\.max_.*_tokens", key)}
    assert lengths == {int(tokens)}
    assert cfg["trainer.precision"] == {"fp32": "32-true", "bf16": "bf16-true"}[precision]
    common = {
        "tasks.ir.num_positives": 2,
        "tasks.ir.num_negatives": 4,
        "losses.ir.info_nce.temperature": 0.02,
        "losses.ir.info_nce.other_positives": "aligned",
        "losses.sts.rank_kl.temperature": 0.05,
        "losses.sts.pro.temperature": 0.05,
        "optimizer._target_": "torch.optim.AdamW",
        "optimizer.betas": [0.9, 0.999],
        "optimizer.weight_decay": 0.0,
        "schedule.name": "linear",
        "schedule.warmup_ratio": 0.03,
        "strategy.config.zero_optimization.stage": 1,
        "seed": 49,
    }
    assert {key: cfg[key] for key in common} == common


def test_recipes_use_the_options_that_they_are_named_after(recipe):
    gte, margin, cut = (recipe(name, FILES) for name in ("gte", "nv_retriever", "matryoshka"))
    sums = ("query_query", "document_document", "document_query", "positive_twice")
    assert all(gte[f"losses.ir.info_nce.{name}"] is True for name in sums)
    assert margin["losses.ir.info_nce.margin_percent"] == 0.95
    widths = [value for key, value in cut.items() if key.endswith(".dims")]
    assert widths == 4 * [[1024, 512, 256, 128, 64, 32, 16]]


# Debug twins

SMALLER = (  # what debug=tiny may change, as regular expressions of keys
    r"max_steps",
    r"model\.(path|fallback_tokenizer|architecture.*)",
    r"data\..*",
    r"tasks\.\w+\.global_batch_size",
    r"encoder\.max_tokens_per_chunk",
    r"losses\.\w+\.\w+\.dims",
    r"(strategy|logger)\..*",
    r"trainer\.(accelerator|devices|precision)",
    r"evaluate\.(before|after)",
)


@pytest.mark.parametrize("name", RECIPES)
def test_the_twin_differs_from_its_recipe_in_sizes_devices_and_data_only(recipe, name):
    own_data = any(name.startswith(start) for start in ("paper/", "youtu2b/finetune"))
    original, twin = recipe(name, *([] if own_data else [FILES])), recipe(name, "debug=tiny")
    differ = {key for key in original.keys() | twin.keys() if original.get(key) != twin.get(key)}
    assert [key for key in sorted(differ) if not re.fullmatch("|".join(SMALLER), key)] == []
    assert {"model.path", "max_steps", "strategy.name"} <= differ
    on_cpu = {"bf16-true": "bf16-mixed"}  # DeepSpeed's kind of bf16 is for GPUs
    precision = original["trainer.precision"]
    assert twin["trainer.precision"] == on_cpu.get(precision, precision)
    architecture = "granite" if name == "paper/minicpm" else original["model.architecture.model_type"]
    assert twin["model.architecture.model_type"] == architecture


def test_a_debug_option_overrules_an_experiment(composed):
    assert composed("experiment=laboratory").max_steps == 120
    assert composed("experiment=laboratory", "debug=default").max_steps == 10


# Laboratory

LABORATORY = {**ARMS, "fusion": (*FUSION, "fuse.checkpoints=[a,b]", "fuse.base=c"), "start": START}


@pytest.fixture(scope="module")
def seen():
    return {}


@pytest.mark.parametrize("arm", LABORATORY)
def test_an_arm_passes_preflight_and_is_like_no_other(composed, seen, arm):
    cfg = typed_train(composed(EXPERIMENT, *LABORATORY[arm]))
    preflight(cfg)
    differs = asdict(cfg) | {"export": None}
    assert seen.setdefault(json.dumps(differs, sort_keys=True), arm) == arm


def test_the_arms_on_forgetting_are_configs(composed):
    for step in forgetting.steps():
        if step.name.endswith(" 1"):
            cfg = typed_train(composed(*step.overrides))
            preflight(cfg)
            assert cfg.model.name == "minilm_128" or cfg.fuse is not None
