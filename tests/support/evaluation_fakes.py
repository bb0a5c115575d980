"""Encoders and data small enough to know every answer."""

import io
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from codiemb.tables import Sheet


class BagOfWords:
    """A hashed bag of weighted words (so that ties are rare); remembers which texts got which instruction."""

    def __init__(self, num_dimensions: int = 64) -> None:
        self.num_dimensions = num_dimensions
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.sides: list[str | None] = []

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: str | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        self.calls.append((instruction, tuple(texts)))
        self.sides.append(side)
        embedding_SD = np.zeros((len(texts), self.num_dimensions), dtype=np.float32)
        for row, text in zip(embedding_SD, texts, strict=True):
            for word in text.lower().split():
                code = zlib.crc32(word.encode())
                row[code % self.num_dimensions] += 1 + code % 97 / 97
        return embedding_SD / np.maximum(np.linalg.norm(embedding_SD, axis=1, keepdims=True), 1e-9)


class Stating(BagOfWords):
    """Says what it is; `weights` and `template` may be any, and `stop_at` is the call that Ctrl-C ends."""

    def __init__(self, weights: str = "1f", template: str = "{}: ", stop_at: int | None = None) -> None:
        super().__init__()
        self.weights, self.template, self.stop_at = weights, template, stop_at

    def prefix(self, instruction: str = "", side: str | None = None) -> str:
        return self.template.format(instruction) if instruction else ""

    def settings(self) -> dict[str, object]:
        return {"weights": self.weights, "max_tokens": 64}

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: str | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        prefix = self.prefix(instruction, side)
        return super().encode([prefix + text for text in texts], instruction=instruction, side=side)


class Oracle:
    """Puts all texts that belong together on one axis."""

    def __init__(self, group_of: Mapping[str, int]) -> None:
        self.group_of = group_of

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: str | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        groups = max(self.group_of.values()) + 1
        return np.eye(groups, dtype=np.float32)[[self.group_of[text] for text in texts]]


TOPICS = ("apple pie oven", "piano violin song", "river boat fish", "engine wheel road")


def write_builtin_data(data: Path, split: str = "test") -> None:
    """All seven folders. Queries i and documents i, i+4, ... share topic i % 4."""
    root = data / "eval" / split
    texts = [f"{TOPICS[i % 4]} number{i} extra{i // 4}" for i in range(16)]
    queries = [f"{TOPICS[i % 4].rsplit(' ', 1)[0]} number{i + 1}" for i in range(4)]
    corpus_rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(texts)]
    query_rows = [{"id": f"q{i}", "text": text} for i, text in enumerate(queries)]
    # two grades, so that a formula that ignores them is found out
    qrels = [{"query_id": f"q{i % 4}", "corpus_id": f"d{i}", "score": 2 if i < 4 else 1} for i in range(12)]
    for name in ("DocsRetrieval", "FramesRetrieval", "FramesReranking"):
        write_rows(root / name / "corpus.jsonl", corpus_rows)
        write_rows(root / name / "queries.jsonl", query_rows)
        write_rows(root / name / "qrels.jsonl", qrels)
    ranked = [{"query_id": f"q{i}", "corpus_ids": [f"d{(i + j) % 16}" for j in range(6)]} for i in range(4)]
    write_rows(root / "FramesReranking" / "top_ranked.jsonl", ranked)
    pairs = [(texts[i], texts[(i * 5 + 3) % 16]) for i in range(16)]
    scored = [{"sentence1": a, "sentence2": b, "score": (i * 7 % 16) / 15} for i, (a, b) in enumerate(pairs)]
    write_rows(root / "FramesSTS" / "pairs.jsonl", scored)
    labelled = [{"sentence1": a, "sentence2": b, "label": i % 2} for i, (a, b) in enumerate(pairs)]
    write_rows(root / "FramesPairClassification" / "pairs.jsonl", labelled)
    topics = [{"text": text, "label": TOPICS[i % 4].split()[0]} for i, text in enumerate(texts)]
    write_rows(root / "FramesClassification" / "train.jsonl", topics)
    write_rows(
        root / "FramesClassification" / "test.jsonl",
        [{**row, "text": row["text"] + " new"} for row in topics],
    )
    write_rows(root / "FramesClustering" / "texts.jsonl", topics)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def shown(sheet: Sheet) -> str:
    """What a terminal of 100 columns shows of a sheet, without colours."""
    console = Console(file=io.StringIO(), width=100, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(sheet.rich())
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
