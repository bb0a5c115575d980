"""The mixture: right answers are hidden where mining may find them, and its commands are valid."""

import json

from hydra import compose, initialize_config_dir

from codiemb.config.preflight import preflight
from codiemb.config.schema import register
from codiemb.config.typed import typed_train
from data_prep.fetch.rows import document_of, query_of
from data_prep.pipeline import plan
from experiments.mixture import raw, run
from tests.support.paths import ROOT


def record(number, positives):
    return {
        "task_type": "ir",
        "query": ["find", "", f"query {number}"],
        "positives": [["", "", text] for text in positives],
        "negatives": [["", "", f"wrong {number}"]],
        "positive_scores": [1.0] * len(positives),
        "negative_scores": [0.0],
    }


def test_second_positives_are_hidden_and_stand_with_the_next_record_as_a_wrong_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "RAW", tmp_path / "docs.jsonl")
    monkeypatch.setattr(raw, "HIDDEN", tmp_path / "hidden.tsv")
    assert raw.write_raw([record(0, ["a", "b"]), record(1, ["c"]), record(2, ["d"])]) == 1
    written = [json.loads(line) for line in raw.RAW.read_text().splitlines()]
    assert [each["query"][2] for each in written] == ["query 0", "query 1", "query 2"]
    assert [[text for _, _, text in each["positives"]] for each in written] == [["a"], ["c"], ["d"]]
    negatives = [["wrong 0"], ["wrong 1", "b"], ["wrong 2"]]
    assert [[text for _, _, text in each["negatives"]] for each in written] == negatives
    assert all(len(each["negative_scores"]) == len(each["negatives"]) for each in written)
    key = query_of("query 0", "find").id
    assert raw.HIDDEN.read_text() == f"query-id\tcorpus-id\tscore\n{key}\t{document_of('b').id}\t1\n"


def test_the_pipeline_reads_the_hidden_answers_and_the_training_command_its_export():
    steps = {step.out.name: step for step in plan(ROOT / run.PIPELINE)}
    assert steps["fetch"].options.from_ == str(raw.RAW)
    assert steps["audit"].options.judgements == steps["audit-2"].options.judgements == str(raw.HIDDEN)
    assert steps["export"].out == run.EXPORT.parent
    register()
    overrides = [each for each in run.COMMANDS["train"].split()[1:] if not each.startswith("hydra.")]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        preflight(typed_train(compose("train", [*overrides, "run_dir=."])))
