"""Is encoding a corpus faster than with SentenceTransformer.encode, which sorts texts by length already?

    python -m experiments.benchmarks.encode_speed            # about 3 minutes on 2 cores
    python -m experiments.benchmarks.encode_speed --device cuda --texts 4096
    python -m experiments.benchmarks.encode_speed --quick    # does it run at all?

Same BERT, same ragged passages, in turns in one process. Writes encode_speed.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tqdm import tqdm

from codiemb.encoder import Encoder, ModelSpec, PromptSpec, load_encoder
from codiemb.encoder.cpu_kernels import use_cpu_kernels
from codiemb.tables import pipe_table
from experiments.benchmarks.machine import matmul_rate, page
from experiments.benchmarks.workload import Job, cost, read_folder, token_lengths, write_folder

_BATCH = 32  # the peer's default


@dataclass
class Contender:
    """One way to encode, and what it took; lists have one entry a round."""

    name: str
    encode: Callable[[list[str]], np.ndarray]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    gap: float = 0.0  # largest difference of an embedding's entry from the first contender's

    def run(self, texts: list[str]) -> np.ndarray:
        """Encode all texts on the clock."""
        started, cpu_started = time.perf_counter(), time.process_time()
        embeddings = self.encode(texts)
        self.seconds.append(time.perf_counter() - started)
        self.cpu_seconds.append(time.process_time() - cpu_started)
        return embeddings


def _peer(folder: Path, dtype: torch.dtype, job: Job) -> SentenceTransformer:
    transformer = Transformer(str(folder / "model"), max_seq_length=job.max_tokens)
    modules = [transformer, Pooling(job.hidden_size, "mean")]
    return SentenceTransformer(modules=modules, device=job.device).to(dtype)


def _ours(folder: Path, dtype: str, job: Job) -> Encoder:
    spec = ModelSpec(path=str(folder / "model"), dtype=dtype, prompt=PromptSpec(query=""))
    encoder = load_encoder(spec)
    encoder.max_tokens = job.max_tokens
    if job.device == "cpu":
        use_cpu_kernels(encoder.backbone)
    return encoder.to(job.device)


def _contenders(job: Job, folder: Path) -> list[Contender]:
    found = []
    for dtype in ("float32", "bfloat16"):
        suffix = "" if dtype == "float32" else ", bf16"
        peer = _peer(folder, getattr(torch, dtype), job)
        ours = _ours(folder, dtype, job)
        found += [
            Contender(
                f"SentenceTransformer.encode{suffix}",
                lambda texts, peer=peer: peer.encode(
                    texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
                ),
            ),
            Contender(f"Encoder.encode{suffix}", ours.encode),
        ]
    mixed = _ours(folder, "float32", job)
    mixed.encode_precision = "bf16-mixed"
    return [*found, Contender("Encoder.encode, bf16-mixed", mixed.encode)]


def _measure(
    contenders: list[Contender], texts: list[str], rounds: int, device: str
) -> list[tuple[float, float]]:
    """All contenders in turns; the matmul rates before each round, a second and a CPU second."""
    rates = []
    for contender in contenders:
        contender.encode(texts[:_BATCH])  # warm-up
    with tqdm(total=rounds * len(contenders), unit="run") as bar:
        for index in range(rounds):
            rates.append(matmul_rate(device=device))
            found = {}
            for contender in contenders if index % 2 == 0 else reversed(contenders):
                found[contender.name] = contender.run(texts)
                bar.update()
            for contender in contenders:
                gap = np.abs(found[contender.name] - found[contenders[0].name]).max()
                contender.gap = max(contender.gap, float(gap))
    if contenders[1].gap > 1e-5:
        raise RuntimeError(f"the embeddings differ by {contenders[1].gap}")
    return rates


def _cells(
    contender: Contender, peer: Contender, tokens: int, flops: float, rates: list, device: str
) -> list[str]:
    wall = zip(contender.seconds, peer.seconds, strict=True)
    cpu = zip(contender.cpu_seconds, peer.cpu_seconds, strict=True)
    clock = int(device == "cpu")  # a card's work is in no CPU second
    shares = zip((contender.seconds, contender.cpu_seconds)[clock], rates, strict=True)
    return [
        contender.name,
        f"{contender.gap:.0e}",
        f"{tokens / statistics.median(contender.seconds):,.0f}",
        f"{statistics.median(theirs / its for its, theirs in wall):.2f}x",
        f"{statistics.median(theirs / its for its, theirs in cpu):.2f}x",
        f"{statistics.median(flops / seconds / rate[clock] for seconds, rate in shares):.0%}",
    ]


def _report(job: Job, folder: Path, contenders: list[Contender], rates: list) -> str:
    lengths = token_lengths(job, folder).flatten()
    ordered = lengths.sort(descending=True).values.split(_BATCH)
    padded = sum(int(batch.max()) * len(batch) for batch in ordered)
    flops = sum(cost(job, folder).flops) / 3  # a forward pass is a third of a step
    tokens = int(lengths.sum())
    work = f"""{job.texts} Chinese-like passages of median {job.median_length:.0f} characters, {tokens:,}
        tokens, BERT of {job.num_layers} layers and width {job.hidden_size}, random weights. In the peer's
        batches of {_BATCH}, sorted by length, {tokens / padded:.0%} of the tokens are no padding: what
        packing can win is small, and no more than 1 / the share of the matmul rate that the peer reaches."""
    header = (
        "encoder",
        "largest difference",
        "tokens/s",
        "ratio",
        "in CPU time",
        "of fp32 matmul rate" + (" (CPU)" if job.device == "cpu" else ""),
    )
    rows = [_cells(each, contenders[0], tokens, flops, rates, job.device) for each in contenders]
    method = f"""Medians of {len(rates)} rounds in turns, tokenisation included. Ratios are to the first line;
        bf16 means weights and activations in bf16, pooling in fp32 here; bf16-mixed is fp32 weights under
        autocast (encoder.encode_precision)."""
    packages = ("torch", "transformers", "sentence-transformers")
    title = "Encoding speed against SentenceTransformer.encode"
    return page(title, (work, pipe_table([header, *rows], 2), method), packages)


def main() -> None:
    """Measure, print the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="tiny, one round, numbers without meaning")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    job = Job("encode", pairs=args.texts // 2, steps=1, device=args.device)
    if args.quick:
        job = Job("quick", pairs=4, steps=1, hidden_size=64, num_layers=1, device=args.device)
        args.rounds = 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(job, folder)
        texts = [text for row in read_folder(folder)[1] for text in row]
        contenders = _contenders(job, folder)
        rates = _measure(contenders, texts, args.rounds, args.device)
        args.out.write_text(_report(job, folder, contenders, rates), "utf-8")
    print(args.out.read_text("utf-8"))


if __name__ == "__main__":
    main()
