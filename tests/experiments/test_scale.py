"""The formulas of experiments/scale against counters, an H100's measured peaks, and the page as it stands."""

import os
import random
import resource
import socket
import threading
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from codiemb.callbacks.lines import answer, listen
from codiemb.encoder import attention, pack_texts
from codiemb.encoder.attention import PACKED_ATTENTION, Packing, position_ids
from codiemb.encoder.checkpointed import checkpointed
from codiemb.encoder.stream import split_by_tokens
from codiemb.losses import InfoNCE
from experiments.scale import formulas, inputs, page
from experiments.scale.formulas import Products, Tokens
from tests.support import tiny
from tests.support.batches import make_batch
from tests.support.counters import Live
from tests.support.paths import GOLDEN

ARCHITECTURE = inputs.stage("align").model.architecture


def operations(counter: FlopCounterMode) -> int:
    return counter.get_total_flops()


def test_the_operations_of_a_step_are_those_that_torch_counts():
    """All matrices, attention in its plain form, a chunk computed again, and InfoNCE's products."""
    encoder = tiny.tiny_encoder("youtu", GOLDEN / "tokenizer").train()
    texts = pack_texts(encoder.tokenizer([("", text) for text in tiny.SENTENCES], 64))
    config = encoder.backbone.config
    widths = config.qk_nope_head_dim + config.qk_rope_head_dim, config.v_head_dim
    products = Products.of(encoder, config.num_hidden_layers, config.num_attention_heads, *widths)
    tokens = Tokens.of(texts.sequence_lengths)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward, torch.no_grad():
        encoder(texts)
    assert operations(forward) == products.forward(tokens)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as whole:
        encoder(texts).last_SD.sum().backward()
    assert operations(whole) == products.train(tokens)
    encoder.max_tokens_per_chunk = 64
    chunks = list(split_by_tokens(texts, 64))
    assert len(chunks) > 2
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as chunked:
        encoder(texts).last_SD.sum().backward()
    again = sum(products.forward(Tokens.of(chunk.sequence_lengths)) for chunk in chunks[:-1])
    assert operations(chunked) == operations(whole) + again


def in_place_product(total, left, right, **_) -> int:
    return 2 * left[0] * left[1] * right[1]


@pytest.mark.parametrize("aligned", [False, True])
def test_the_operations_of_the_similarities_are_those_that_torch_counts(aligned: bool):
    batch = make_batch([(2, 1), (1, 3), (1, 0), (3, 1)])
    loss = InfoNCE(0.1, other_positives="aligned" if aligned else "all")
    queries, documents = len(batch.query_BD), len(batch.document_ND)
    pairs = int(batch.groups.is_positive_N.sum())
    at = formulas.Step("ir", 1, queries, documents, pairs, Tokens(0, 0), 0, 1)
    sizes = make_sizes(width=batch.query_BD.shape[1])
    batch.query_BD.requires_grad_()
    batch.document_ND.requires_grad_()
    in_place = {torch.ops.aten.addmm_: in_place_product}  # it knows only addmm
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        loss(batch).value.backward()
    assert operations(counter) == formulas.loss_flops(loss, at, sizes)


def make_sizes(**changed: int) -> inputs.Sizes:
    names = inputs.Sizes.__dataclass_fields__
    return inputs.Sizes(**{name: changed.get(name, 1) for name in names})


class FakeModel:
    """Layers of youtu2b at full width, without memory: shapes are computed, numbers are not."""

    def __init__(self, layers: int, dtype: torch.dtype) -> None:
        config = inputs.AutoConfig.for_model(**ARCHITECTURE | {"num_hidden_layers": layers})
        config.use_cache, config.is_causal = False, False
        build = inputs.AutoModel.from_config
        self.model = build(config, dtype=dtype, attn_implementation=PACKED_ATTENTION).train()
        self.sizes = inputs.Sizes.of(self.model)

    def states(self, lengths: tuple[int, ...]) -> torch.Tensor:
        ids = torch.randint(100, (1, sum(lengths)))
        packing = Packing.of(lengths, ids.device, causal=False)
        positions = position_ids(lengths, ids.device)
        output = self.model(input_ids=ids, position_ids=positions, packing=packing)
        return output.last_hidden_state[0].mean(dim=0)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable-length kernel, of which nothing but the shapes is asked."""
    monkeypatch.setattr(attention, "has_varlen_kernel", lambda *_: True)


@pytest.mark.parametrize("mixed", [True, False])
def test_what_the_backward_pass_keeps_of_a_token_is_what_it_saves(kernel, mixed: bool):
    kept: dict[int, torch.UntypedStorage] = {}
    with FakeTensorMode():
        fake = FakeModel(2, torch.float32 if mixed else torch.bfloat16)
        shapes = {tuple(p.shape) for p in fake.model.parameters()}
        weights = {p.untyped_storage()._cdata for p in fake.model.parameters()}

        def save(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            is_weight = {tuple(tensor.shape), tuple(tensor.shape[::-1])} & shapes  # or a cast of one
            if storage._cdata not in weights and not is_weight:
                kept[storage._cdata] = storage
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=mixed),
        ):
            fake.states((600, 400))
        found = sum(storage.nbytes() for storage in kept.values()) / 1_000
    assert found == pytest.approx(formulas.kept_bytes(fake.sizes, mixed=mixed), abs=2)


@pytest.mark.parametrize(("chunks", "cached"), [(1, True), (2, True), (3, False)])
def test_the_peak_of_a_step_is_that_of_all_that_lives(kernel, chunks: int, cached: bool):
    """Gradients of chunks wait for the first one, in bf16 where all share one cast of the weights."""
    lengths = (1_024,) * 4
    with FakeTensorMode(), Live() as live:
        fake = FakeModel(4, torch.float32)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cached):
            states = torch.stack(checkpointed(fake.states, [(lengths,)] * chunks))
        states.float().mean().backward()
    tokens = Tokens(chunks * sum(lengths), 0)
    at = formulas.Step("ir", 1, 1, 1, 1, tokens, 0, sum(lengths))
    expected = formulas.peak("ddp", fake.sizes, at, casts_are_cached=cached)
    assert live.peak == pytest.approx(expected.total - expected.optimizer, rel=0.05)


@pytest.mark.parametrize(
    ("texts", "way", "tokens", "chunk"),
    [("1,024 tokens", "packed", 8_192, 8_192), ("ragged", "packed", 8_459, 8_459)]
    + [("ragged", "chunked", tokens, 4_096) for tokens in (8_459, 32_786)],
)
def test_the_peak_of_a_step_is_that_of_an_h100(texts: str, way: str, tokens: int, chunk: int):
    _, gib = inputs.measured().rows["full", texts, way, tokens]
    sizes = inputs.Sizes.of(inputs.backbone(ARCHITECTURE))
    at = formulas.Step("ir", 1, 1, 1, 1, Tokens(tokens, 0), 0, chunk)
    found = formulas.peak("ddp", sizes, at, casts_are_cached=True)  # as the benchmark has it
    assert found.total / inputs.GIB == pytest.approx(gib, rel=0.02)


def test_expected_lengths_are_those_of_drawn_ones():
    rng = random.Random(1)
    drawn = [min(1_024.0, rng.lognormvariate(5.704, 1.1)) for _ in range(100_000)]
    expected = formulas.expected_tokens(len(drawn), 1_024)
    assert expected == pytest.approx(Tokens.of(drawn), rel=0.01)


def test_a_thousand_ranks_are_let_in_and_without_files_for_them_fewer(monkeypatch: pytest.MonkeyPatch):
    """Rank 0 needs an open file for each, and asks for as many; who has none is not watched."""
    kept: list[socket.socket] = []

    def call(port: int, number: int) -> None:
        for rank in range(number):
            kept.append(socket.create_connection(("127.0.0.1", port)))
            kept[-1].sendall(f"password rank {rank + 1}\n".encode())

    door = listen()
    callers = threading.Thread(target=call, args=(door.getsockname()[1], 999))
    callers.start()
    lines = answer(door, 999, 60.0, "password", "rank 0")
    callers.join()
    assert len(lines) == 999
    found = []
    limits, set_limits = resource.getrlimit(resource.RLIMIT_NOFILE), resource.setrlimit
    for may_raise in (True, False):
        door = listen()
        call(door.getsockname()[1], 20)
        set_limits(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, limits[1]))
        if not may_raise:
            monkeypatch.setattr(resource, "setrlimit", lambda *_: None)  # as where the hard limit is as low
        try:
            found.append(answer(door, 20, 1.0, "password", "rank 0"))
        finally:
            set_limits(resource.RLIMIT_NOFILE, limits)
    assert len(found[0]) == 20
    assert 0 < len(found[1]) < 20
    for connected in (*kept, *lines, *found[0], *found[1]):
        connected.close()


def test_the_page_is_what_the_code_writes():
    assert page.page() == (Path(page.__file__).parent / "README.md").read_text("utf-8")
