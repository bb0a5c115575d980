"""Chunked encoding: the gradient of the whole batch, whatever the token budget."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codiemb.batch import Batch, PackedTexts
from codiemb.data import Collator, TaskSpec
from codiemb.data.records import Record, Text
from codiemb.encoder import Encoder, LoraSpec
from codiemb.encoder.stream import split_by_tokens
from codiemb.losses import (
    PRO,
    AnglE,
    CoSENT,
    DistillKL,
    Graded,
    InfoNCE,
    ListNet,
    MarginMSE,
    Matryoshka,
    MidLayerInfoNCE,
    Pearson,
    RankKL,
    Ungraded,
    WeightedSum,
)
from tests.support import tiny

RECORDS = {
    "ir": [
        Record(
            "ir",
            Text("Find it", f"question {i}"),
            [Text("", f"the answer {i}, at some length {'x ' * i}"), Text("", f"another {i}")][: 1 + i % 2],
            [Text("", f"not {i}"), Text("", f"nor {i * 7}")][: i % 3],
            [],
            [],
        )
        for i in range(6)
    ],
    "sts": [
        Record("sts", Text("Judge", f"a {i}"), [Text("Judge", f"b {'c ' * i}")], [], [min(1.0, i / 4)], [])
        for i in range(6)
    ],
}
RECORDS["mixed"] = [
    record._replace(task="mixed") for pair in zip(*RECORDS.values(), strict=True) for record in pair
][:6]
RECORDS["ir"] = [  # a teacher's, which the other losses leave alone
    record._replace(positive_scores=[9.0 - i, 4.0][: 1 + i % 2], negative_scores=[i - 3.0, 2.0][: i % 3])
    for i, record in enumerate(RECORDS["ir"])
]
LOSSES = {
    "info_nce": ("ir", InfoNCE(0.1)),
    "info_nce aligned, in row chunks": ("ir", InfoNCE(0.1, other_positives="aligned", chunk_rows=2)),
    "matryoshka": ("ir", Matryoshka(InfoNCE(0.1), dims=[8, 16])),
    "distillation": (
        "ir",
        WeightedSum({"kl": (1.0, DistillKL(0.1)), "margin": (0.01, Matryoshka(MarginMSE(0.5), [8, 16]))}),
    ),
    "pearson": ("sts", Pearson()),
    "rank_kl": ("sts", RankKL()),
    "pro": ("sts", PRO()),
    "cosent": ("sts", CoSENT()),
    "angle": ("sts", AnglE()),
    "list_net": ("sts", ListNet()),
    "codiemb_sts": (
        "sts",
        WeightedSum({"pearson": (2.0, Pearson()), "pro": (0.5, PRO()), "mid": (1.0, MidLayerInfoNCE(0.1))}),
    ),
    "mixed": (
        "mixed",
        WeightedSum({"ir": (1.0, Ungraded(InfoNCE(0.1))), "sts": (1.0, Graded(CoSENT()))}),
    ),
    "mid_layer": ("sts", MidLayerInfoNCE(0.1)),
    "matryoshka of mid_layer": ("sts", Matryoshka(MidLayerInfoNCE(0.1), dims=[8])),
}


def batch_of(task: str, encoder: Encoder) -> Batch:
    collator = Collator(encoder.tokenizer, {task: TaskSpec(6, 64, 64)}, seed=1)
    return collator(RECORDS[task], source="s", epoch=0, indices=range(6))


def gradients(
    encoder: Encoder, loss: torch.nn.Module, batch: Batch, budget: int | None
) -> list[torch.Tensor]:
    encoder = copy.deepcopy(encoder)
    encoder.max_tokens_per_chunk = budget
    loss(encoder.embed(batch)).value.backward()
    return [p.grad for p in encoder.parameters() if p.requires_grad and p.grad is not None]


def assert_equal(chunked: list[torch.Tensor], direct: list[torch.Tensor], tolerance: float) -> None:
    """Every tensor to the tolerance; in fp32, where small ones are differences of large ones, all as one."""
    assert len(chunked) == len(direct) > 5
    largest = max(float(g.abs().max()) for g in direct)
    assert largest > 0
    for one, other in zip(chunked, direct, strict=True):
        least = 1e-3 if other.dtype == torch.float64 else 1  # the gradient of a key's bias is zero
        scale = max(float(other.abs().max()), least * largest)
        assert float((one - other).abs().max()) <= tolerance * scale


# Every loss with one encoder, every encoder with the losses of the default recipe: chunks lie between them.
ENCODERS = [("youtu", 0), ("youtu", 2), ("bert", 2)]
CHUNKED = [
    *((name, "bert", 0, torch.float64, 1e-12) for name in LOSSES),
    *((name, *encoder, torch.float64, 1e-12) for name in ("info_nce", "codiemb_sts") for encoder in ENCODERS),
    *((name, "youtu", 0, torch.float32, 1e-5) for name in ("info_nce", "codiemb_sts")),
]


@pytest.mark.parametrize(("name", "architecture", "rank", "dtype", "tolerance"), CHUNKED)
def test_chunks_have_the_gradient_of_the_whole_batch(name, architecture, rank, dtype, tolerance, byte_level):
    task, loss = LOSSES[name]
    lora = LoraSpec(r=rank)
    encoder = tiny.tiny_encoder(architecture, byte_level, middle_layer="middle", lora=lora).train().to(dtype)
    batch = batch_of(task, encoder)
    budget = 2 * max(batch.texts.sequence_lengths)
    assert sum(1 for _ in split_by_tokens(batch.texts, budget)) > 2
    direct = gradients(encoder, loss, batch, None)
    assert_equal(gradients(encoder, loss, batch, budget), direct, tolerance)


def test_memory_depends_on_the_budget_and_not_on_the_batch(byte_level):
    """Bytes of activations kept for the backward pass; inside a checkpoint nothing is."""
    encoder = tiny.tiny_encoder("bert", byte_level, middle_layer="middle").train()

    def kept(num_records: int, budget: int | None) -> int:
        sizes = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if not isinstance(tensor, torch.nn.Parameter):
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        records = [
            Record("ir", Text("", f"{'q ' * 9}{i}"), [Text("", f"{'d ' * 9}{i}")], [], [], [])
            for i in range(num_records)
        ]
        collator = Collator(encoder.tokenizer, {"ir": TaskSpec(6, 64, 64)}, seed=1)
        batch = collator(records, source="s", epoch=0, indices=range(num_records))
        encoder.max_tokens_per_chunk = budget
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder.embed(batch)
        return sum(sizes.values())

    assert kept(32, None) > 3.9 * kept(8, None)
    assert kept(32, 200) < 1.2 * kept(8, 200)
    assert kept(32, 200) < kept(32, None) / 5


def test_dropout_is_replayed_in_the_recomputation(byte_level):
    encoder = tiny.tiny_encoder("bert", byte_level).train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    batch = batch_of("ir", encoder)
    chunks = list(split_by_tokens(batch.texts, 64))
    assert len(chunks) > 1
    torch.manual_seed(0)
    chunked = gradients(encoder, InfoNCE(0.1), batch, 64)
    reference = copy.deepcopy(encoder)
    torch.manual_seed(0)
    parts = [reference._embeddings(chunk).last_SD for chunk in chunks]  # the same chunks, without checkpoints
    reference._embeddings = lambda texts: encoder_output(torch.cat(parts))
    InfoNCE(0.1)(reference.embed(batch)).value.backward()
    direct = [p.grad for p in reference.parameters() if p.requires_grad and p.grad is not None]
    assert_equal(chunked, direct, 1e-5)


@pytest.mark.parametrize("budget", [64, 10_000])
def test_all_chunks_but_the_last_are_computed_twice(budget, byte_level):
    encoder = tiny.tiny_encoder("bert", byte_level).train()
    batch = batch_of("ir", encoder)
    seen = []
    encoder.backbone.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    encoder.max_tokens_per_chunk = budget
    InfoNCE(0.1)(encoder.embed(batch)).value.backward()
    sizes = [len(chunk.input_ids_T) for chunk in split_by_tokens(batch.texts, budget)]
    assert (len(sizes) > 2) == (budget == 64)
    assert seen == [*sizes, *sizes[-2::-1]]


def encoder_output(last_SD: torch.Tensor):
    from codiemb.encoder import Embeddings

    return Embeddings(last_SD, None)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30), budget=st.integers(9, 40))
def test_chunks_are_the_stream_cut_between_sequences(lengths, budget):
    ids_T = torch.arange(sum(lengths))
    texts = PackedTexts(ids_T, tuple(lengths), tuple(length - 1 for length in lengths))
    chunks = list(split_by_tokens(texts, budget))
    assert torch.equal(torch.cat([chunk.input_ids_T for chunk in chunks]), ids_T)
    assert sum((chunk.sequence_lengths for chunk in chunks), ()) == texts.sequence_lengths
    assert sum((chunk.prompt_lengths for chunk in chunks), ()) == texts.prompt_lengths
    assert all(0 < len(chunk.input_ids_T) == sum(chunk.sequence_lengths) <= budget for chunk in chunks)


def test_a_text_longer_than_the_budget_is_refused():
    texts = PackedTexts(torch.arange(9), (4, 5), (0, 0))
    with pytest.raises(ValueError, match="5 tokens exceeds max_tokens_per_chunk=4"):
        list(split_by_tokens(texts, 4))
