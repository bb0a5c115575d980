"""Run inside a consumer's environment: embed with every export and say right, refused or wrong, as JSON.

Uses nothing of this repository: `python probe.py EXPORTS` prints one line.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

RIGHT = 1 - 1e-5  # releases round differently: kernels and masks changed


def outcome(embed: Any, expected: dict[str, Any], warnings: list[str]) -> str:  # noqa: ANN401  a callable
    """`right`, `refuses: ...` or `wrong ...`; wrong is silent unless the library warned of its version."""
    warnings.clear()
    try:
        found = embed()
    except Exception as error:
        return f"refuses: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    cosine = min(
        float((np.asarray(rows) * np.asarray(expected[name])).sum(1).min()) for name, rows in found.items()
    )
    if cosine > RIGHT:
        return "right"
    warned = any("created with Sentence Transformers version" in text for text in warnings)
    return f"wrong, {'with a warning' if warned else 'silently'} ({cosine:.3f})"


def with_sentence_transformers(folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """As a user does: queries, documents, and a prompt by its name."""
    model = SentenceTransformer(str(folder), device="cpu")
    return {
        "query": model.encode_query(texts),
        "document": model.encode_document(texts),
        "named": model.encode(texts, prompt_name="named"),
    }


def with_transformers(folder: Path, texts: list[str], pooling: str) -> dict[str, np.ndarray]:
    """Documents alone: who uses transformers alone writes prompts and pooling down for himself."""
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    last = mask.sum(1, keepdim=True).expand(-1, -1, states.shape[-1]) - 1
    pooled = {
        "mean": lambda: (states * mask).sum(1) / mask.sum(1),
        "cls": lambda: states[:, 0],
        "last_token": lambda: states.gather(1, last)[:, 0],
    }[pooling]()
    return {"document": torch.nn.functional.normalize(pooled, dim=1).numpy()}


class _Collect(logging.Handler):
    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self.texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def main(exports: Path) -> None:
    """One line of JSON: by export, the outcome of both doors."""
    warnings: list[str] = []
    logging.getLogger("sentence_transformers").addHandler(_Collect(warnings))
    outcomes = {}
    for file in sorted(exports.glob("*.json")):
        expected = json.loads(file.read_text("utf-8"))
        folder, texts = exports / file.stem, expected["texts"]
        outcomes[file.stem] = {
            "sentence-transformers": outcome(
                lambda f=folder, t=texts: with_sentence_transformers(f, t), expected, warnings
            ),
            "transformers": outcome(
                lambda f=folder, t=texts, p=expected["pooling"]: with_transformers(f, t, p),
                expected,
                warnings,
            ),
        }
    sys.stdout.write(json.dumps(outcomes) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
