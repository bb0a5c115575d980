"""Promise 1: the same global batch, the same loss and the same update, whatever the strategy and world."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from codiemb.batch import Batch, PackedTexts
from codiemb.config.assemble import assemble
from codiemb.encoder.stream import split_by_tokens
from codiemb.training.checkpoint_files import checkpoint_path, last_good
from experiments.scale import wire
from experiments.scale.inputs import Sizes
from tests.support import ranks, recipe
from tests.support.worlds import JOBS, STRATEGIES, UNLIKE, Differences, on_ranks, run, start

pytestmark = pytest.mark.slow

RUNS = [(world, strategy, case) for world, jobs in JOBS.items() for strategy, case in jobs]
SGD = [run for run in RUNS if run[2] not in ("adamw", "resumed")]
RESUMED = [run for run in RUNS if run[2].startswith("resumed")]


@pytest.mark.parametrize(("world", "strategy", "case"), RUNS)
def test_the_losses_are_those_of_one_process(differences: Differences, expected, world, strategy, case):
    assert differences[world, strategy, case]["losses"] == pytest.approx(expected[case].losses, rel=1e-5)


@pytest.mark.parametrize(("world", "strategy", "case"), SGD)
def test_the_sgd_updates_are_those_of_one_process(differences: Differences, world, strategy, case):
    errors = differences[world, strategy, case]["update_errors"]
    assert len(errors) == 2
    assert max(errors) < 1e-5


@pytest.mark.parametrize(("world", "strategy", "case"), RUNS)
def test_an_encoding_that_ranks_share_is_that_of_one_process(differences: Differences, world, strategy, case):
    """Before training, where each rank has other weights; in it, with the strategy's; after it, whole."""
    assert max(differences[world, strategy, case]["embedding_gaps"]) < 1e-6


@pytest.mark.parametrize(("world", "strategy", "case"), SGD)
def test_the_logged_gradient_norm_is_that_of_one_process(
    differences: Differences, expected, world, strategy, case
):
    """Summed in fp32, in whatever order: many small entries cost 1e-5."""
    assert differences[world, strategy, case]["norms"] == pytest.approx(expected[case].norms, rel=3e-5)


@pytest.mark.parametrize(
    ("world", "strategy", "case"), [r for r in SGD if r[0] > 1 and r[2] not in ("lora", "lm_and_ir")]
)
def test_every_gradient_is_reduced_once_a_step(differences: Differences, world, strategy, case):
    """Where they are sharded, once a micro-batch: adding them up first takes whole gradients."""
    accumulated = recipe.ACCUMULATED in recipe.CASES[case]
    times = 2 if accumulated and strategy in ("fsdp", "deepspeed_zero2", "deepspeed_zero3") else 1
    for reductions in differences[world, strategy, case]["reductions"]:
        assert times <= reductions < times + 0.25  # the rest is the loss's own, for embeddings and logs


@pytest.mark.parametrize(
    ("strategy", "case"), [*((s, "plain") for s in STRATEGIES), *((s, "chunked") for s in UNLIKE)]
)
def test_what_two_ranks_ask_of_each_other_is_what_the_page_of_scale_says(differences, folder, strategy, case):
    """To the last number, but for flags and norms of one; ZeRO 3 may keep weights that it would gather.

    Chunks reduce nothing more, then: not even a bias.

    The second step, of sts: before the first, FSDP2's root has been gathered to look at the start.
    """
    cfg = recipe.config(folder / f"expected-{case}", *recipe.CASES[case])
    assembled = assemble(cfg)
    times = cfg.trainer["accumulate_grad_batches"]
    shares = [assembled.data.batches(rank=rank, num_ranks=2, accumulation=times) for rank in range(2)]
    sizes = Sizes.of(assembled.encoder.backbone)
    expected: Counter[str] = Counter()
    for part in range(times, 2 * times):
        batches = [share[part] for share in shares]
        requests = wire.of_loss(
            assembled.module.losses[batches[0].task], [len(b.groups.owner_N) for b in batches], sizes.width
        )
        if strategy != "ddp" or part == times:
            most = max(len(chunks(b, cfg.encoder.max_tokens_per_chunk or 10**9)) for b in batches)
            requests += wire.of_weights(strategy, sizes, most, dtype="float32")
        for request in requests:
            expected[f"{request.operation} {request.dtype}"] += int(request.times * request.numbers)
    asked = Counter(differences[2, strategy, case]["requests"][1])
    if strategy == "deepspeed_zero3":
        assert (
            sizes.parameters <= asked["weights_all_gather float32"] <= expected["weights_all_gather float32"]
        )
        asked["weights_all_gather float32"] = expected["weights_all_gather float32"]
    assert expected.keys() <= asked.keys()
    assert all(0 <= asked[key] - expected[key] <= 2 * times for key in asked), (asked, expected)


@pytest.mark.parametrize(("world", "strategy", "case"), SGD)
def test_the_export_is_that_of_one_process(differences: Differences, folder: Path, world, strategy, case):
    ours = load_file(folder / f"{world}-{strategy}-{case}" / "export" / "model.safetensors")
    theirs = load_file(folder / f"expected-{case}" / "export" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert float((ours[name] - tensor).abs().max()) <= 1e-5 * max(1.0, float(tensor.abs().max())), name


@pytest.mark.parametrize(("world", "strategy", "case"), RESUMED)
def test_every_strategy_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(
    differences, world, strategy, case
):
    found = differences[world, strategy, case]
    assert found["resumed_losses"] == found["losses"][1:]
    assert set(found["gaps"]) == {0.0}


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_zero3"])
def test_what_sigkill_leaves_of_a_sharded_run_goes_on_as_if_nothing_had_been(
    differences: Differences, folder: Path, strategy: str
):
    """A rank is killed in the second of two steps; new processes end with the bits of the whole run."""
    cfg = recipe.config(
        folder / f"killed-{strategy}",
        *on_ranks(strategy, 2),
        *recipe.CASES["resumed"],
        "callbacks.stop_together.timeout=3",
    )
    killed = start(ranks.train_and_fall, 2, cfg, 1, "killed", folder / f"killed-{strategy}-")
    for process in killed.processes:
        process.join(120)
    assert killed.processes[1].exitcode == -signal.SIGKILL
    assert killed.processes[0].exitcode not in (0, None)

    run_dir = Path(cfg.run_dir)
    good = last_good(run_dir / "checkpoints")
    assert good is not None
    assert good.step == 1
    run(ranks.go_on, 2, cfg, folder, good.path)
    whole = differences[2, strategy, "resumed"]
    assert json.loads((run_dir / "losses.json").read_text("utf-8")) == whole["losses"][1:]
    ours = load_file(run_dir / "export" / "model.safetensors")
    theirs = load_file(folder / f"2-{strategy}-resumed" / "export" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_shards_of_two_ranks_are_not_for_one(differences: Differences, folder: Path):
    strategy = "deepspeed_zero3"  # the files of ZeRO 1 are counted by the same line
    checkpoints = folder / f"2-{strategy}-resumed" / "checkpoints"
    cfg = recipe.config(folder / f"alone-{strategy}", *on_ranks(strategy, 1), *recipe.CASES["resumed"])
    jobs = {strategy: (cfg, pl.Callback(), checkpoint_path(checkpoints, 1))}
    run(ranks.fail, 1, jobs, folder / f"alone-{strategy}-")
    message = json.loads((folder / f"alone-{strategy}-0").read_text("utf-8"))[strategy]
    assert "holds the optimizer's state in 2 shards" in message
    assert "resume with 2" in message


def test_a_file_of_fsdp_goes_on_with_any_number_of_ranks_and_without_fsdp(
    differences: Differences, folder: Path
):
    checkpoints = folder / "2-fsdp-resumed" / "checkpoints"
    whole = differences[2, "fsdp", "resumed"]["losses"]
    for strategy in ("fsdp", "auto"):
        overrides = [*on_ranks(strategy, 1), *recipe.CASES["resumed"]]
        cfg = recipe.config(folder / f"file-{strategy}", *overrides)
        run(ranks.go_on, 1, cfg, folder, checkpoint_path(checkpoints, 1))
        losses = json.loads((Path(cfg.run_dir) / "losses.json").read_text("utf-8"))
        assert losses == pytest.approx(whole[1:], rel=1e-5)


def test_deepspeed_in_bf16_rounds_weights_but_neither_scores_nor_rotary_frequencies(expected, folder: Path):
    bf16 = ("model.dtype=bfloat16", "trainer.precision=bf16-true", *recipe.CASES["plain"])
    cfgs = [
        recipe.config(folder / f"bf16-{zero}", *on_ranks(f"deepspeed_zero{zero}", 1), *bf16)
        for zero in (1, 3)
    ]
    run(ranks.train_in_bf16, 1, cfgs, folder)
    for types in json.loads((folder / "bf16.json").read_text("utf-8")):
        assert types["weights"] == ["torch.bfloat16"]
        assert types["buffers"] == ["torch.float32"]
        assert types["num_buffers"] > 0
        assert types["scores"] == "torch.float32"


def test_clipping_bites_and_ranks_are_unequal(expected, folder: Path):
    """Otherwise the tests above would prove less than they say."""
    assert all(norm > 2 for case in expected.keys() - {"lm", "lm_and_ir"} for norm in expected[case].norms)
    cfg = recipe.config(folder / "expected-chunked", *recipe.CASES["chunked"])
    data = assemble(cfg).data
    for world in (2, 4):
        shares = [data.batches(rank=rank, num_ranks=world, accumulation=2) for rank in range(world)]
        micro_batches = [[share[i] for share in shares] for i in range(4)]  # by micro-batch, then rank
        assert unequal(micro_batches, lambda batch: len(batch.groups.owner_N))
        assert unequal(micro_batches, lambda batch: len(batch.texts.input_ids_T))
        assert unequal(micro_batches, lambda batch: len(chunks(batch, cfg.encoder.max_tokens_per_chunk)))
        ir = [batch for ranks in micro_batches for batch in ranks if batch.task == "ir"]
        assert any((~batch.groups.is_positive_N).any() for batch in ir)
        assert any(batch.groups.owner_N[batch.groups.is_positive_N].bincount().max() > 1 for batch in ir)


def unequal(micro_batches: list[list[Batch]], size: Callable[[Batch], int]) -> bool:
    return any(len({size(batch) for batch in ranks}) > 1 for ranks in micro_batches)


def chunks(batch: Batch, budget: int) -> list[PackedTexts]:
    return list(split_by_tokens(batch.texts, budget))
