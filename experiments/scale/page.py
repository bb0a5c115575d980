"""The page: a table for each question, every number computed from conf, a card's page and assumptions."""

import textwrap
from collections.abc import Sequence

from codiemb.tables import pipe_table
from experiments.scale import formulas, wire
from experiments.scale.cases import Case, cases
from experiments.scale.formulas import STRATEGIES
from experiments.scale.inputs import ASSUMPTIONS, CARD_MEMORY, GIB, OPEN_FILES

CARDS = (1, 8, 64)
MANY = 1_000
LARGE_BATCH = 65_536
_SCALE = {"GiB": GIB, "TFLOP/s": 1e12, "GB/s": 1e9, "µs": 1e-6}


def page() -> str:
    """All of it."""
    found = cases()
    align = next(case for case in found if case.cfg.stage == "align")
    sections = [_head(align), _steps(found), _memory(found), _wire(found), _large_batch(align), _many(align)]
    return "\n".join([*sections, _inputs(align)])


def _head(case: Case) -> str:
    return _text(f"""# What a step costs on 1, 8 and 64 cards

        Question: what do the three stages of youtu2b ({case.sizes.parameters / 1e6:,.1f}M parameters) need of
        cards, memory and wire, and what gives way first when a batch or the number of ranks grows? No run has
        had more than one card. This page is arithmetic: `python -m experiments.scale` computes every number
        from conf/experiment/youtu2b, from one card's measured step and from the assumptions at its end. The
        formulas are compared with counters: operations with torch's, activations and the peak of a step with
        all tensors that live, requests to torch.distributed with those of two ranks of each strategy
        (tests/experiments/test_scale.py, tests/strategy). They meet the measured peaks of an H100 to 2 %.""")


def _steps(found: Sequence[Case]) -> str:
    rows = [_step_row(case, cards) for case in found for cards in CARDS]
    header = ("stage, task", "cards", "batch", "tokens a card", "chunks", "model", "again", "loss")
    packed, chunked = (found[0].card.share(way) for way in ("packed", "chunked"))
    return _section(
        "One optimizer step, on each card",
        f"""PFLOP of the model and of its chunks computed again; TFLOP of the loss. Batches are
        those of
        conf, rounded up where the cards do not divide them (a run would refuse those). Time is that of
        computing alone. First at {packed:.0%} of the matmul rate, which 8,459 packed tokens have reached,
        here for chunks of 8,192. Then at the {chunked:.0%} that chunks of 4,096 have reached, where the card
        waited for its host. Chunks of 8,192 have not been measured.""",
        pipe_table([(*header, "time", "at worst"), *rows]),
    )


def _step_row(case: Case, cards: int) -> tuple[str, ...]:
    at = case.step(cards)
    again = formulas.recomputed(case.products, at)
    slow = case.model_flops(at) / (case.card.rate * case.card.share("chunked"))
    counts = (cards, at.queries * cards, round(at.tokens.total), at.chunks)
    flops = (
        f"{case.model_flops(at) / 1e15:,.1f}",
        f"{again / 1e15:,.1f}",
        f"{case.loss_flops(at) / 1e12:,.2f}",
    )
    times = _time(case.seconds(at)), _time(max(slow, case.seconds(at)))
    return (case.name, *(f"{count:,}" for count in counts), *flops, *times)


def _memory(found: Sequence[Case]) -> str:
    rows = []
    for strategy in STRATEGIES:
        for cards in CARDS:
            peaks = [case.peak(strategy, case.step(cards)) for case in found]
            largest = max(peaks, key=lambda memory: memory.total)
            parts = [f"{part / GIB:,.1f}" for part in (*vars(largest).values(), largest.total)]
            share = largest.total / CARD_MEMORY.value
            fits = "no" if share > 1 else "barely" if share > 0.9 else "yes"
            rows.append((strategy, str(cards), *parts, fits))
    header = (
        "strategy",
        "cards",
        "weights",
        "gradients",
        "optimizer",
        "copies",
        "activations",
        "loss",
        "all",
    )
    fsdp = found[0].peak("fsdp", found[0].step(CARDS[-1]))
    return _section(
        "Memory at the peak of a step, GiB a card",
        f"""Of the task that needs most. ddp and fsdp with trainer.precision=bf16-mixed, DeepSpeed with
        bf16-true. Copies are autocast's bf16 weights, what a strategy gathers, and its buckets. **Chunks keep
        whole gradients on a card**: a weight's gradient is handed on when the last chunk that has used it is
        done, which is why it is reduced once a step, and until then autograd holds the sum
        ({fsdp.gradients / GIB:.1f} GiB under fsdp on any number of cards). So the token budget
        (encoder.max_tokens_per_chunk) decides what fits, and a strategy less than its name says. Counted in
        one process: weights, gradients, autocast's copies and activations. That gradients are reduced once,
        in two. The other parts of several cards are reckoned. More than nine tenths of a card fit barely:
        the allocator, CUDA and NCCL need some.""",
        pipe_table([(*header, "fits"), *rows]),
    )


def _wire(found: Sequence[Case]) -> str:
    rows = [_wire_row(case, cards) for case in found for cards in CARDS[1:]]
    header = ("stage, task", "cards", "losses alone", *STRATEGIES, "ddp's time", "fsdp's time")
    return _section(
        "Over the wire, GB that a card receives in a step",
        """Time is that of the bytes at the link's full rate, as a share of computing; some of it overlaps.
        ZeRO 1
        and 2 ask for an all-reduce of gradients, not for a reduce-scatter, and then gather weights: three
        times the weights in all. fsdp gathers fp32 weights twice for each chunk, ZeRO 3 bf16 ones up to three
        times.""",
        pipe_table([header, *rows]),
    )


def _wire_row(case: Case, cards: int) -> tuple[str, ...]:
    at = case.step(cards)
    requests = {strategy: case.requests(strategy, at) for strategy in STRATEGIES}
    sums = [f"{wire.received(each, cards) / 1e9:,.1f}" for each in requests.values()]
    shares = [wire.seconds(requests[each], cards) / case.seconds(at) for each in ("ddp", "fsdp")]
    of_loss = f"{wire.received(case.of_loss(at), cards) / 1e9:,.2f}"
    return (case.name, str(cards), of_loss, *sums, *(f"{share:.1%}" for share in shares))


def _large_batch(case: Case) -> str:
    cards = CARDS[-1]
    at = case.step(cards, LARGE_BATCH)
    computing, gathered = case.seconds(at), case.loss_bytes(at)
    rest = formulas.peak("deepspeed_zero1", case.sizes, at)
    documents = at.documents * cards
    room = (CARD_MEMORY.value - rest.total) / (gathered / documents)
    rows = [
        ("tokens a card", f"{at.tokens.total:,.0f} in {at.chunks} chunks", ""),
        ("computing", _time(computing), ""),
        ("similarities", *_share(case.loss_seconds(at), computing)),
        ("the loss's collectives", *_share(wire.seconds(case.of_loss(at), cards), computing)),
        ("documents of all ranks in the loss", *_of_card(gathered)),
        ("everything else under ZeRO 1", *_of_card(rest.total)),
        ("documents that would fill the card", f"{room:,.0f}", f"{room / documents:,.0f} times this batch"),
    ]
    return _section(
        f"{LARGE_BATCH:,} queries on {cards} cards, stage align",
        """The limit is time. Chunks make the encoder's memory independent of the batch, and InfoNCE's
        chunks of
        rows leave three tables of all documents: the gathered one, its gradient, and the sum of gradients
        over ranks.""",
        pipe_table([("on each card", "", ""), *rows], 3),
    )


def _many(case: Case) -> str:
    at, on_8 = case.step(MANY, LARGE_BATCH), case.step(8).queries
    computing, asked = case.seconds(at), case.of_loss(at)
    few = sum(request.times for request in asked if request.numbers <= MANY)
    weights = {
        name: wire.of_weights(name, case.sizes, at.chunks, dtype="float32") for name in ("fsdp", "ddp")
    }
    files, grown = MANY - 1, case.loss_bytes(case.step(MANY, on_8 * MANY))
    left = f"{OPEN_FILES.value - files:,.0f}"
    beats = files / (case.cfg.callbacks["stop_together"]["frozen_timeout"] / 5)
    rows = [
        ("rank_watch: files that rank 0 keeps open", f"{files:,}", f"{left} left for all else"),
        ("rank_watch: signs of life that rank 0 sends", f"{beats:,.0f} a second", ""),
        ("fsdp's gathers and gradients", *_share(wire.seconds(weights["fsdp"], MANY), computing)),
        ("ddp's gradients", *_share(wire.seconds(weights["ddp"], MANY), computing)),
        ("gather of embeddings, and its gradient", *_share(wire.seconds(asked, MANY), computing)),
        ("row counts and other small requests", *_share(few * wire.least_seconds(MANY), computing)),
        ("documents of all ranks in the loss", *_of_card(case.loss_bytes(at))),
        (f"the same with {on_8:,} queries a card, as on 8", *_of_card(grown)),
    ]
    return _section(
        f"{MANY:,} ranks, {at.queries * MANY:,} queries, stage align",
        f"""Computing takes {_time(computing)}. First to give way is rank_watch: rank 0 keeps a file open
        for every
        rank, and Linux' usual limit leaves {left} for everything else. Where files run out it watches nobody
        and says so; with `ulimit -n 4096` a thousand callers are let in (a test does both). Next come the
        gathers of fsdp, once per chunk. The gather of embeddings grows with the batch, not with the ranks.
        Row counts are {few} small requests with the others, {wire.least_seconds(MANY) * 1e6:.0f} µs each
        at least.""",
        pipe_table([("", "", ""), *rows], 3),
    )


def _inputs(case: Case) -> str:
    card, longest = case.card, case.cfg.tasks[case.task].max_document_tokens
    rows = [
        (each.what, f"{each.value / _SCALE.get(each.unit, 1):,.4g} {each.unit}".strip(), each.source)
        for each in ASSUMPTIONS
    ]
    rows.append(("raw texts of pretrain", "fill all their windows", "an upper bound"))
    rows.append(("identical texts of a batch", "none", "an upper bound: they are encoded once"))
    taken = f"""Measured, not assumed: {card.card}, {card.rate / 1e12:.0f} TFLOP/s in a square bf16 product
        and the
        shares above ([page](../benchmarks/gpu_step.md)). A text has
        {formulas.expected_tokens(1, longest).total:.0f} tokens on average by the last two lengths below."""
    return _section("Assumptions", taken, pipe_table([("what", "value", "source"), *rows], 3))


def _share(seconds: float, of: float) -> tuple[str, str]:
    return _time(seconds), f"{seconds / of:.2%} of computing"


def _of_card(size: float) -> tuple[str, str]:
    return f"{size / GIB:.2f} GiB", f"{size / CARD_MEMORY.value:.0%} of a card"


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def _section(title: str, text: str, table: str) -> str:
    return f"## {title}\n\n{_text(text)}\n{table}"


def _text(text: str) -> str:
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(textwrap.fill(part, 110, break_on_hyphens=False) for part in paragraphs) + "\n"
