"""The workload `ragged` of an evaluation: long and short documents, short queries, and tasks made of them."""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from transformers import AutoTokenizer

from codiemb.encoder import ModelSpec, PromptSpec

MEDIAN, _SIGMA, LONGEST = 300, 0.8, 2_048  # tokens of a document


class Workload(NamedTuple):
    """Texts to encode; they are those of the DocsRetrieval in the folder beside the other builtin tasks."""

    documents: list[str]
    queries: list[str]


def bert_spec(builtin: Path, layers: int, width: int) -> ModelSpec:
    """A BERT of MiniLM's shape, with positions for long documents, without prompts."""
    shape = {
        "model_type": "bert",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "max_position_embeddings": LONGEST,
    }
    return ModelSpec(
        name="bert",
        tokenizer=str(builtin / "tokenizer"),
        architecture=shape,
        init="bag_of_words",  # so that scores tell texts apart
        prompt=PromptSpec(query=""),
        max_tokens=LONGEST,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def make_workload(folder: Path, builtin: Path, num_documents: int, num_queries: int) -> Workload:
    """Write DocsRetrieval anew; the other tasks are the builtin ones."""
    rng = random.Random(0)
    source, target = builtin / "eval" / "test", folder / "eval" / "test"
    (target / "DocsRetrieval").mkdir(parents=True)
    for task in source.iterdir():
        if task.name != "DocsRetrieval":
            (target / task.name).symlink_to(task.resolve())
    docs = source / "DocsRetrieval"
    pool = {row["id"]: row["text"] for row in _rows(docs / "corpus.jsonl")}
    queries = rng.sample(_rows(docs / "queries.jsonl"), num_queries)
    asked = {query["id"] for query in queries}
    qrels = [row for row in _rows(docs / "qrels.jsonl") if row["query_id"] in asked]
    answers = list(dict.fromkeys(row["corpus_id"] for row in qrels))
    others = rng.sample(sorted(set(pool) - set(answers)), max(0, num_documents - len(answers)))
    corpus = [{"id": name, "text": text} for name, text in _ragged(builtin, pool, answers + others, rng)]
    for name, rows in {"corpus": corpus, "queries": queries, "qrels": qrels}.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (target / "DocsRetrieval" / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    return Workload([row["text"] for row in corpus], [row["text"] for row in queries])


def _ragged(
    builtin: Path, pool: dict[str, str], names: list[str], rng: random.Random
) -> Iterator[tuple[str, str]]:
    """Each text filled up with others, and cut at its length in tokens."""
    tokenizer = AutoTokenizer.from_pretrained(builtin / "tokenizer")
    texts = list(pool.values())
    for name in names:
        length = min(LONGEST - 2, max(8, round(rng.lognormvariate(math.log(MEDIAN), _SIGMA))))
        text = pool[name]
        while len(text) < 8 * length:
            text += "\n" + rng.choice(texts)
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        yield name, text[: offsets[min(length, len(offsets)) - 1][1]]
