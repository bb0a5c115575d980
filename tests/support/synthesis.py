"""A small source, a model that answers what it is asked, and the step that brings them together."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.__main__ import main
from tests.support.chat_server import ChatServer

TOPICS = ("whales", "rivers", "volcanoes", "bridges", "clocks", "bread")
PASSAGES = {
    f"d{i}": f"Everything about {topic} number {i}, told at length." for i, topic in enumerate(TOPICS)
}


def prompt_of(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


def answer(body: dict[str, Any]) -> str:
    """A model that does what it is asked: the last JSON of the prompt, about the topic there."""
    prompt = prompt_of(body)
    topic = next((topic for topic in TOPICS if topic in prompt), "nothing")
    said = f"{topic} {body['seed'] % 1000}"
    if '"question_type"' in prompt:
        return json.dumps({"persona": "a sailor", "question_type": "keywords", "difficulty": "student"})
    if '"paraphrases"' in prompt:
        return json.dumps({"paraphrases": [f"in other words {said}", f"again {said}"]})
    if '"hard_negatives"' in prompt:
        return f"Here they are:\n```json\n{json.dumps({'hard_negatives': [f'not {said}', 'nor that']})}\n```"
    if '"documents"' in prompt:
        graded = [{"grade": g, "text": f"of grade {g} {said}"} for g in (1, 3, 0, 2)]
        return json.dumps({"documents": graded})
    if '"tasks"' in prompt:
        return json.dumps({"tasks": [f"Given a thing, find number {i}" for i in range(20)]})
    if '"pairs"' in prompt:
        grades = (5, 2.5) if "two others" in prompt else (5, 4, 2.5, 0)
        pairs = [{"grade": g, "text": f"like {g} {said}"} for g in grades]
        return json.dumps({"sentence": f"This sentence is {said}", "pairs": pairs})
    if '"sentence"' in prompt:
        return json.dumps({"sentence": f"This sentence is {said}"})
    if '"positive"' in prompt:
        texts = {"query": f"Question {said}", "positive": f"The right answer {said}"}
        return json.dumps(texts | {"hard_negative": f"A wrong answer {said}"})
    query = {"query": f"what of {said}", "from_first": "a", "from_second": "b"}
    return f"<think>They want {{one}}.</think>{json.dumps(query)}"


def synthesise(server: ChatServer, source: Path | None, out: Path, recipe: str, *more: str) -> Path:
    read = ["--in", str(source)] if source is not None else []
    fast = ["--first-wait-seconds", "0.001", "--concurrency", "4", "--max-attempts", "3"]
    where = ["--endpoint", server.url, "--model", "m"]
    main(["synthesise", *read, "--out", str(out), "--recipe", recipe, *where, *fast, *more])
    return out


def rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
