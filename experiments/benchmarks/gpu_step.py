"""How fast is a training step of a 2B model on one card, against the card's own matmul rate?

    python -m experiments.benchmarks.gpu_step      # CUDA with 80 GB, a few minutes
    python -m experiments.benchmarks.gpu_step --model youtu_tiny --device cpu --quick   # does it run at all?

Random weights and random tokens: full fine-tuning (fp32 weights, bf16 autocast: trainer.precision=bf16-mixed)
and LoRA (bf16 weights, fp32 adapters), texts of exactly 1,024 tokens and ragged ones of at most as many,
these also in chunks (encoder.max_tokens_per_chunk) and padded, with transformers' own attention. No data
loading, no trainer, no network. Writes gpu_step.md.
"""

import argparse
import random
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from tqdm import tqdm

from codiemb.batch import Batch, Groups, PackedTexts
from codiemb.encoder import Encoder, LoraSpec, ModelSpec, load_encoder
from codiemb.encoder.attention import has_varlen_kernel
from codiemb.losses import InfoNCE
from codiemb.tables import pipe_table
from experiments.benchmarks.machine import matmul_rate, page, synchronise
from experiments.scale.formulas import Products, Tokens

_ROOT = Path(__file__).parents[2]


@dataclass
class Run:
    """One line of the table; lists have one entry a step."""

    training: str  # "full" or "LoRA"
    texts: str  # "1,024 tokens" or "ragged"
    way: str  # "packed", "chunked" or "padded"
    times: int = 1  # as many tokens as the others
    tokens: int = 0
    flops: float = 0.0
    seconds: list[float] = field(default_factory=list)
    peak_gib: float = 0.0


def _build(args: argparse.Namespace, rank: int) -> Encoder:
    """The model of conf/model with random weights, on the device."""
    schema, chosen = OmegaConf.structured(ModelSpec), OmegaConf.load(_ROOT / f"conf/model/{args.model}.yaml")
    spec = cast(ModelSpec, OmegaConf.to_object(OmegaConf.merge(schema, chosen)))
    tokenizers = (_ROOT / "data/builtin/tokenizer", _ROOT / "tests/golden/tokenizer")
    tokenizer = next(str(path) for path in tokenizers if path.is_dir())
    dtype = "bfloat16" if args.device == "cuda" and rank else "float32"
    spec = replace(spec, tokenizer=tokenizer, weights="random", dtype=dtype, middle_layer=None)
    torch.manual_seed(0)
    encoder = load_encoder(replace(spec, lora=LoraSpec(r=rank)))
    return encoder.to(args.device).train()


def _lengths(texts: str, tokens: int, longest: int) -> list[int]:
    """An even number of text lengths that add up to about `tokens`."""
    rng, lengths = random.Random(0), [longest]
    while sum(lengths) < tokens or len(lengths) % 2:
        ragged = max(4, round(rng.lognormvariate(5.704, 1.1)))  # median 300
        lengths.append(min(ragged, longest) if texts == "ragged" else longest)
    return sorted(lengths)


def _batch(lengths: list[int], vocab_size: int, device: str) -> Batch:
    """Pairs of random texts; the first half are queries."""
    pairs = torch.arange(len(lengths) // 2, device=device)
    texts = PackedTexts(
        torch.randint(vocab_size, (sum(lengths),), device=device), tuple(lengths), (0,) * len(lengths)
    )
    return Batch(
        task="ir",
        source="random",
        texts=texts,
        query_sequence_B=pairs * 2,
        document_sequence_N=pairs * 2 + 1,
        groups=Groups(
            owner_N=pairs,
            is_positive_N=torch.ones_like(pairs, dtype=torch.bool),
            score_N=torch.full_like(pairs, torch.nan, dtype=torch.float32),
            query_hash_B=pairs,
            document_hash_N=pairs + len(pairs),
        ),
    )


def _head_widths(config: Any) -> tuple[int, int]:  # noqa: ANN401  any transformers config
    """(query and key, value) of one head."""
    plain = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    latent = getattr(config, "qk_nope_head_dim", 0) + getattr(config, "qk_rope_head_dim", 0)
    return latent or plain, getattr(config, "v_head_dim", plain)


def _flops(encoder: Encoder, lengths: list[int]) -> float:
    """Of one step; recomputation in chunks does not count."""
    config = encoder.backbone.config
    heads = config.num_hidden_layers, config.num_attention_heads
    return Products.of(encoder, *heads, *_head_widths(config)).train(Tokens.of(lengths))


def _measure(encoder: Encoder, run: Run, args: argparse.Namespace, bar: tqdm) -> None:
    """Train some steps; a run that does not fit the card has no seconds."""
    encoder.packed = run.way != "padded"
    encoder.max_tokens_per_chunk = args.chunk if run.way == "chunked" else None
    try:
        _train(encoder, run, args, bar)
    except torch.OutOfMemoryError:
        run.seconds.clear()
    encoder.zero_grad()
    if args.device == "cuda":
        torch.cuda.empty_cache()


def _train(encoder: Encoder, run: Run, args: argparse.Namespace, bar: tqdm) -> None:
    lengths = _lengths(run.texts, args.tokens * run.times, args.longest)
    run.tokens, run.flops = sum(lengths), _flops(encoder, lengths)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    batch = _batch(lengths, encoder.backbone.config.vocab_size, args.device)
    loss, trained = InfoNCE(), [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    for step in range(args.warmup + args.steps):
        synchronise(args.device)
        started = time.perf_counter()
        with torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
            value: Tensor = loss(encoder.embed(batch)).value
        value.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        synchronise(args.device)
        if step >= args.warmup:
            run.seconds.append(time.perf_counter() - started)
        bar.update()
    if not value.isfinite():
        raise RuntimeError(f"the loss is {value.item()}")
    if args.device == "cuda":
        run.peak_gib = torch.cuda.max_memory_allocated() / 2**30


def _cells(run: Run, rate: float) -> list[str]:
    cells = [run.training, run.texts, run.way, f"{run.tokens:,}"]
    if not run.seconds:
        return [*cells, "out of memory", "", "", ""]
    seconds = statistics.median(run.seconds)
    cells.append(f"{1000 * seconds:,.0f} ms")
    cells += [f"{run.tokens / seconds:,.0f}", f"{run.flops / seconds / rate:.0%}"]
    return [*cells, f"{run.peak_gib:.1f} GiB" if run.peak_gib else ""]


def _report(args: argparse.Namespace, line: str, kernel: bool, runs: list[Run], rate: float) -> str:
    device = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    attention = "one variable-length kernel" if kernel else "one call per run of equal lengths"
    product = "bf16" if args.device == "cuda" else "fp32"
    text = f"""{line}. Random weights, InfoNCE, clipping, fused AdamW. {device}, matmul rate
        {rate / 1e12:.3g} TFLOP/s (square product in {product}). Attention: {attention}; `padded` is
        transformers' own. `chunked`: encoder.max_tokens_per_chunk={args.chunk}. Medians of {args.steps}
        steps. Tokens are those of texts, without padding. Model flops: 6 per trained and 4 per frozen
        parameter and token, and attention's scores and values threefold; recomputation and padding do not
        count."""
    header = ("training", "texts", "encoding", "tokens a step", "step", "tokens/s", "of the matmul rate")
    table = pipe_table([(*header, "peak memory"), *(_cells(run, rate) for run in runs)], 3)
    return page("A training step on one card", (text, table), ("torch", "transformers", "peft"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="youtu2b", help="a file of conf/model with an architecture")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tokens", type=int, default=8_192, help="tokens a step, about")
    parser.add_argument("--longest", type=int, default=1_024, help="tokens of the longest text")
    parser.add_argument("--training", nargs="+", choices=("full", "LoRA"), default=("full", "LoRA"))
    parser.add_argument("--chunk", type=int, default=4_096, help="encoder.max_tokens_per_chunk of `chunked`")
    parser.add_argument("--rank", type=int, default=16, help="of LoRA")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny, one step, numbers without meaning")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    if args.quick:
        args.tokens, args.longest, args.chunk, args.warmup, args.steps = 128, 48, 48, 0, 1
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu --model youtu_tiny --quick shows that the script runs")
    return args


def _lines(longest: int) -> list[tuple[str, str, int]]:
    """Texts, encoding and times the tokens of each line."""
    same = f"{longest:,} tokens"
    ways = (("packed", 1), ("padded", 1), ("chunked", 1), ("chunked", 4))
    return [(same, "packed", 1), *(("ragged", *way) for way in ways)]


def main() -> None:
    """Measure, print the table, write the page."""
    args = _arguments()
    runs: list[Run] = []
    lines = _lines(args.longest)
    with tqdm(total=len(args.training) * len(lines) * (args.warmup + args.steps), unit="step") as bar:
        for training in args.training:
            encoder = _build(args, args.rank if training == "LoRA" else 0)
            for line in lines:
                runs.append(Run(training, *line))
                _measure(encoder, runs[-1], args, bar)
            described, widths = encoder.describe(), _head_widths(encoder.backbone.config)
            del encoder  # the next one needs its room
    size = 8_192 if args.device == "cuda" else 1_024
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    rate, _ = matmul_rate(dtype, size, device=args.device)
    query, value = (torch.empty(1, 1, 1, width, dtype=dtype, device=args.device) for width in widths)
    kernel = has_varlen_kernel(query, value, 0.0)
    args.out.write_text(_report(args, described, kernel, runs, rate), "utf-8")
    print(args.out.read_text("utf-8"))


if __name__ == "__main__":
    main()
