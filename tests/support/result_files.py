"""Writes result files as mteb lays them out."""

import json
from collections.abc import Mapping
from pathlib import Path

FILES = Path(__file__).parents[1] / "evaluation" / "result_files"
MAIN_SCORES: dict[str, dict[str, dict[str, float]]] = json.loads((FILES / "main_scores.json").read_text())


def write_file(folder: Path, task: str, scores: Mapping[str, float], revision: str = "abc") -> Path:
    """TASK.json as mteb 1.11 and newer write it: a main score for each split."""
    row = {"hf_subset": "default", "languages": ["cmn-Hans"]}
    record = {
        "dataset_revision": revision,
        "task_name": task,
        "mteb_version": "1.38.30",
        "scores": {split: [{"main_score": score, **row}] for split, score in scores.items()},
        "evaluation_time": 1.0,
        "kg_co2_emissions": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{task}.json").write_text(json.dumps(record), "utf-8")
    return folder / f"{task}.json"


def write_model(
    root: Path, model: str, scores: Mapping[str, Mapping[str, float]], revision: str = "1f"
) -> Path:
    """ROOT/MODEL/REVISION/TASK.json with model_meta.json; returns ROOT/MODEL."""
    folder = root / model.replace("/", "__") / revision
    for task, by_split in scores.items():
        write_file(folder, task, by_split)
    meta = {"name": model, "revision": revision, "max_tokens": 512, "license": "mit"}
    (folder / "model_meta.json").write_text(json.dumps(meta), "utf-8")
    return folder.parent


def write_ours(folder: Path, scores: Mapping[str, float], **head: str) -> Path:
    """Our results.json: one row a task, on split test."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"task": task, "type": "STS", "metric": "cosine_spearman", "score": score, "seconds": 1.0}
        | {"num_texts": 2, "prompts": {"text": "Query: "}, "splits": ["test"], "revision": "abc"}
        | {"bm25": None, "metrics": {}}
        for task, score in scores.items()
    ]
    record = {"model": "codiemb/mine", "model_revision": "unknown", "mteb_version": "2.26.24"} | head
    (folder / "results.json").write_text(json.dumps(record | {"results": rows, "missing": []}), "utf-8")
    return folder
