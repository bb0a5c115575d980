"""Is an evaluation faster than mteb's own with the same export, a plain SentenceTransformer?

    python -m experiments.benchmarks.evaluate_speed            # about 5 minutes on 2 cores
    python -m experiments.benchmarks.evaluate_speed --quick    # does it run at all?

The workload `ragged`: documents of lognormal length, median 300 tokens, clipped at 2,048, each begun with one
builtin documentation text and filled up with others; short queries. Seed 0. Encoding and whole tasks apart,
in turns in one process. Needs data/builtin (`make data`). Writes evaluate_speed.md.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mteb
import numpy as np
import torch
from mteb.abstasks import AbsTask
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from codiemb.callbacks.cpu import keep_freed_memory
from codiemb.encoder import Encoder, load_encoder
from codiemb.encoder.cpu_kernels import use_cpu_kernels
from codiemb.evaluation import Evaluator, builtin_tasks
from codiemb.evaluation.isolation import preserve_random_state, quiet_mteb
from codiemb.export import export_sentence_transformer
from codiemb.tables import pipe_table
from experiments.benchmarks.evaluate_clocks import OURS, PEER, Encoding, Times
from experiments.benchmarks.evaluate_workload import LONGEST, MEDIAN, bert_spec, make_workload
from experiments.benchmarks.machine import matmul_rate, page

_BUILTIN = Path(__file__).parents[2] / "data" / "builtin"
_BATCH = 32  # the peer's default
_SAME_SCORE = 1e-4
_SHORT = ("Retrieval", "Reranking", "STS", "PairClassification", "Classification", "Clustering")
_TASKS = ["DocsRetrieval", *(f"Frames{kind}" for kind in _SHORT)]  # long texts; short ones


def _lengths(encoder: Encoder, texts: list[str]) -> list[int]:
    return [len(one.input_ids) for one in encoder.tokenizer([("", text) for text in texts], LONGEST)]


def _useful_share(lengths: list[int]) -> float:
    """Of the tokens in the peer's batches, sorted by length, those that are no padding."""
    ordered = sorted(lengths, reverse=True)
    return sum(ordered) / sum(ordered[i - i % _BATCH] for i in range(len(ordered)))


def _flops(encoder: Encoder, texts: list[str]) -> tuple[int, float]:
    """Tokens of the texts, and what a forward pass must multiply: 2 flops a weight and token, attention."""
    config, lengths = encoder.backbone.config, _lengths(encoder, texts)
    body = sum(p.numel() for p in encoder.backbone.encoder.parameters())
    squares = sum(length**2 for length in lengths)
    return sum(lengths), 2.0 * body * sum(
        lengths
    ) + 4.0 * config.hidden_size * config.num_hidden_layers * squares


def _encode_in_turns(
    ours: Encoder, peer: SentenceTransformer, texts: list[str], rounds: int, bar: tqdm
) -> Times:
    times = Times()
    sides: dict[str, Callable[[], np.ndarray]] = {
        PEER: lambda: peer.encode(texts, normalize_embeddings=True, show_progress_bar=False),
        OURS: lambda: ours.encode(texts),
    }
    for encode in (partial(peer.encode, texts[:2], show_progress_bar=False), partial(ours.encode, texts[:2])):
        encode()  # warm-up
    for number in range(rounds):
        found = {}
        for side in list(sides)[:: 1 if number % 2 == 0 else -1]:
            found[side] = times.run(side, sides[side])
            bar.update()
        gap = np.abs(found[OURS] - found[PEER]).max()
        if gap > 1e-5:
            raise RuntimeError(f"the embeddings differ by {gap}")
    return times


def _evaluate_in_turns(
    ours: Encoder, peer: SentenceTransformer, data: Path, names: list[str], rounds: int, bar: tqdm
) -> tuple[dict[str, Times], dict[str, float], dict[tuple[str, str], Encoding]]:
    """By task: the times, the largest difference of its main score; and by side what encoding took of it."""
    times: dict[str, Times] = defaultdict(Times)
    gaps: dict[str, float] = defaultdict(float)
    sides: dict[str, Encoder | SentenceTransformer] = {PEER: peer, OURS: ours}
    encodings = {(name, side): Encoding(model.encode) for name in names for side, model in sides.items()}
    for number in range(rounds):
        for name in names:
            scores = {}
            for side in (PEER, OURS)[:: 1 if number % 2 == 0 else -1]:
                task, clock = _fresh(data, name), encodings[name, side]
                clock.begin()
                sides[side].encode = clock  # type: ignore[method-assign]
                evaluate = partial(_by_mteb, peer, task) if side == PEER else partial(_by_us, ours, task)
                scores[side] = times[name].run(side, evaluate)
                bar.update()
            gaps[name] = max(gaps[name], abs(scores[PEER] - scores[OURS]))
            if gaps[name] > _SAME_SCORE:
                raise RuntimeError(f"{name}: the scores are {scores}")
    return times, gaps, encodings


def _fresh(data: Path, name: str) -> AbsTask:
    """A task keeps its data and its random state."""
    return next(task for task in builtin_tasks(data, "test") if task.metadata.name == name)


def _by_us(encoder: Encoder, task: AbsTask) -> float:
    return Evaluator([task], {}).run(encoder, bm25=False).results[0].score


def _by_mteb(model: SentenceTransformer, task: AbsTask) -> float:
    """As its documentation has it; batches of 32 are its default."""
    with quiet_mteb(), preserve_random_state():
        options = {"show_progress_bar": False}
        result = mteb.evaluate(
            model, task, cache=None, co2_tracker=False, encode_kwargs=options, show_progress_bar=False
        )
    return float(result.task_results[0].get_score())


def _encoding_cells(name: str, times: Times, tokens: int, flops: float, rate: float) -> list[str]:
    return [
        name,
        f"{tokens:,}",
        f"{tokens / times.median(PEER):,.0f}",
        f"{tokens / times.median(OURS):,.0f}",
        f"{times.ratio(0):.2f}x",
        f"{times.ratio(1):.2f}x",
        f"{flops / times.median(PEER) / rate:.0%}",
        f"{flops / times.median(OURS) / rate:.0%}",
    ]


def _encoding_share(encoding: Encoding, whole: float, encoder: Encoder, rate: float) -> str:
    """Of the task's CPU seconds; and of the matmul rate while it encodes."""
    rate_reached = _flops(encoder, encoding.texts)[1] / encoding.median() / rate
    return f"{encoding.median() / whole:.0%} at {rate_reached:.0%}"


def _task_cells(name: str, times: Times, gap: float | None, shares: Iterable[str] = ("", "")) -> list[str]:
    return [
        name,
        f"{times.median(PEER):.2f}",
        f"{times.median(OURS):.2f}",
        f"{times.ratio(0):.2f}x",
        f"{times.ratio(1):.2f}x",
        *shares,
        "" if gap is None else f"{gap:.0e}",
    ]


def _together(times: Iterable[Times]) -> Times:
    """All tasks, one after the other."""
    total = Times()
    for side in (PEER, OURS):
        rounds = zip(*(each.taken[side] for each in times), strict=True)
        total.taken[side] = [(sum(c for c, _ in one), sum(w for _, w in one)) for one in rounds]
    return total


def _measured(folder: Path, args: argparse.Namespace) -> str:
    """The page."""
    keep_freed_memory()
    torch.manual_seed(0)
    spec = bert_spec(args.data, args.layers, args.width)
    export = export_sentence_transformer(load_encoder(spec), folder / "export", query_instruction="")
    workload = make_workload(folder / "data", args.data, args.documents, args.queries)
    ours = load_encoder(replace(spec, path=str(export), architecture={}))
    use_cpu_kernels(ours.backbone)
    peer = SentenceTransformer(str(export), device="cpu")
    rate = matmul_rate()[1]
    num_runs = 2 * args.rounds * (2 + len(args.tasks))
    with tqdm(total=num_runs, unit="run") as bar:
        encoding = {
            part: _encode_in_turns(ours, peer, texts, args.rounds, bar)
            for part, texts in workload._asdict().items()
        }
        tasks, gaps, encodings = _evaluate_in_turns(ours, peer, folder / "data", args.tasks, args.rounds, bar)
    cells = [
        _encoding_cells(part, times, *_flops(ours, getattr(workload, part)), rate)
        for part, times in encoding.items()
    ]
    rows = []
    for name, times in tasks.items():
        shares = [
            _encoding_share(encodings[name, side], times.median(side), ours, rate) for side in (PEER, OURS)
        ]
        rows.append(_task_cells(name, times, gaps[name], shares))
    rows.append(_task_cells("all, one after the other", _together(list(tasks.values())), None))
    return _page(args, _useful_share(_lengths(ours, workload.documents)), cells, rows)


def _page(args: argparse.Namespace, useful: float, encoding: list[list[str]], tasks: list[list[str]]) -> str:
    work = f"""Workload `ragged`: {args.documents} documents of lognormal length, median {MEDIAN} tokens,
        clipped at {LONGEST:,}, builtin documentation filled up with more of it, and {args.queries} short
        queries; seed 0. They are DocsRetrieval, too; other tasks are the builtin ones, of short texts. A BERT
        of {args.layers} layers and width {args.width} in
        fp32, random weights, without prompts; both sides load the same export. The peer has its default
        batches of {_BATCH}, sorted by length; {useful:.0%} of the documents' tokens in them are no
        padding."""
    header = (
        "",
        "tokens",
        "peer, tokens/CPU s",
        "ours",
        "ratio",
        "wall clock",
        "peer, of matmul rate",
        "ours",
    )
    task_header = (
        "task",
        "mteb, CPU s",
        "ours",
        "ratio",
        "wall clock",
        "mteb: encoding",
        "ours: encoding",
        "scores differ by",
    )
    method = f"""Medians of {args.rounds} rounds, both sides in turns in one process. Tasks are whole:
        reading, encoding, scoring. `95% at 70%` is the share of the CPU seconds in which texts are encoded,
        and the share of the matmul rate that the weights' products reach in them."""
    parts = (
        work,
        pipe_table([header, *encoding], 1),
        pipe_table([task_header, *tasks], 1),
        method,
    )
    packages = ("torch", "transformers", "sentence-transformers", "mteb")
    return page("Evaluation speed against mteb with a plain SentenceTransformer", parts, packages)


def main() -> None:
    """Measure, print the tables, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=_BUILTIN)
    parser.add_argument("--documents", type=int, default=120)
    parser.add_argument("--queries", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=_TASKS)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--quick", action="store_true", help="tiny, one round, numbers without meaning")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    if args.quick:
        args.documents, args.queries, args.rounds, args.layers, args.width = 8, 4, 1, 1, 64
        args.tasks = _TASKS[:1]
    with tempfile.TemporaryDirectory() as name:
        text = _measured(Path(name), args)
    args.out.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
