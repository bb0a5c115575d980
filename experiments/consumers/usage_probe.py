"""Run inside the tools' environment: embed with every export by the code of docs/usage.md, print differences.

Uses nothing of this repository: `python usage_probe.py FOLDER` reads FOLDER/exports and FOLDER/blocks.
"""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = (
    "sentence-transformers",
    "transformers",
    "huggingface_hub",
    "langchain-huggingface",
    "langchain-community",
    "llama-index-core",
    "llama-index-embeddings-huggingface",
    "llama-index-vector-stores-faiss",
    "faiss-cpu",
)


def difference(rows: list[list[float]], expected: list[list[float]]) -> float:
    """The largest of any number of any vector."""
    return float(np.abs(np.asarray(rows) - np.asarray(expected)).max())


def of_langchain(names: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """By kind of texts and side; `index` is the score that FAISS gives for the block's first text."""
    model = names["model"]
    found = {"index": abs(_score(names["index"]) - expected["score"])} if "index" in names else {}
    for kind, texts in expected["texts"].items():
        queries = [model.embed_query(text) for text in texts]
        found[f"{kind}, queries"] = difference(queries, expected["query"][kind])
        found[f"{kind}, documents"] = difference(model.embed_documents(texts), expected["document"][kind])
    return found


def _score(index: Any) -> float:  # noqa: ANN401  theirs
    pairs = index.similarity_search_with_score("Where is my order?", k=2)
    return next(float(score) for document, score in pairs if document.page_content.startswith("The order"))


def of_llama_index(names: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """As `of_langchain`; the index is asked as the block asks it."""
    model = names["model"]
    nodes = names["index"].as_retriever(similarity_top_k=2).retrieve("Where is my order?")
    score = next(node.score for node in nodes if node.text.startswith("The order"))
    found = {"index": abs(score - expected["score"])}
    for kind, texts in expected["texts"].items():
        queries = [model.get_query_embedding(text) for text in texts]
        documents = model.get_text_embedding_batch(texts)
        found[f"{kind}, queries"] = difference(queries, expected["query"][kind])
        found[f"{kind}, documents"] = difference(documents, expected["document"][kind])
    return found


def main(folder: Path) -> None:
    """One line of JSON: versions, and by way and export the differences."""
    ways = {"LangChain": of_langchain, "LangChain, own class": of_langchain, "LlamaIndex": of_llama_index}
    differences: dict[str, dict[str, dict[str, float]]] = {way: {} for way in ways}
    os.makedirs(folder / "outputs/finetune", exist_ok=True)
    os.chdir(folder)
    link = Path("outputs/finetune/export")
    for file in sorted((folder / "exports").glob("*.json")):
        link.unlink(missing_ok=True)
        link.symlink_to(folder / "exports" / file.stem)
        expected = json.loads(file.read_text("utf-8"))
        for way, measure in ways.items():
            names: dict[str, Any] = {}
            exec(compile((folder / "blocks" / way).read_text("utf-8"), way, "exec"), names)
            differences[way][file.stem] = measure(names, expected)
    versions = {package: version(package) for package in PACKAGES}
    sys.stdout.write(json.dumps({"versions": versions, "differences": differences}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
