"""Batches whose loss can only be 0 or a constant are refused before training, with the numbers."""

import logging

import pytest

from codiemb.data import Proportional, SourceFile, TaskSpec
from codiemb.errors import UserError
from codiemb.training.datamodule import EmbeddingDataModule


@pytest.fixture
def make(write_lines, tmp_path, tokenizer):
    def make_data(records, spec, *, in_batch=True):
        files = [SourceFile("docs", write_lines(records), in_batch=in_batch)]
        tasks = {records[0]["task_type"]: spec}
        data = EmbeddingDataModule(files, tasks, Proportional(), tokenizer, seed=3, cache=tmp_path / "cache")
        data.prepare_data()
        data.setup()
        return data

    return make_data


def ir(number, **more):
    return {"task_type": "ir", "query": f"q {number}", "positives": [f"p {number}"]} | more


BARE = [ir(i) for i in range(16)]
HARD = [ir(i, negatives=["n"]) for i in range(16)]
SOME = [*BARE[:5], *HARD[5:]]
PAIRS = [ir(i, task_type="sts", positive_scores=[i % 2]) for i in range(16)]


def check(data, num_ranks=1, accumulation=1):
    """As the script does, and as the loader does on every rank."""
    said = []
    for step in (data.describe, lambda r, a: data.batches(num_ranks=r, accumulation=a)):
        try:
            step(num_ranks, accumulation)
        except UserError as error:
            said.append(str(error))
    assert len(said) != 1
    return said[0] if said else ""


@pytest.mark.parametrize(("batch", "num_ranks", "accumulation"), [(1, 1, 1), (4, 1, 4), (8, 1, 8), (2, 1, 2)])
def test_one_query_without_negatives_in_a_forward_pass_is_refused(make, batch, num_ranks, accumulation):
    message = check(make(BARE, TaskSpec(batch)), num_ranks, accumulation)
    assert message.startswith(
        f"source docs: 1 query in one forward pass (tasks.ir.global_batch_size={batch} / "
        f"trainer.accumulate_grad_batches={accumulation}), and no negatives of its 16 records"
    )
    assert message.endswith("the loss 0. Give the records negatives, or a larger batch")


@pytest.mark.parametrize(("batch", "num_ranks", "accumulation"), [(2, 1, 1), (8, 1, 4), (2, 2, 1), (8, 2, 4)])
def test_two_queries_in_a_forward_pass_of_all_ranks_are_negatives_of_each_other(
    make, batch, num_ranks, accumulation
):
    assert check(make(BARE, TaskSpec(batch)), num_ranks, accumulation) == ""


def test_negatives_of_its_own_make_one_query_teach_unless_none_are_taken(make):
    assert check(make(HARD, TaskSpec(1))) == ""
    assert "(tasks.ir.num_negatives=0)" in check(make(HARD, TaskSpec(1, num_negatives=0)))


def test_a_source_of_own_negatives_that_has_none_is_refused_at_any_batch(make):
    message = check(make(BARE, TaskSpec(8), in_batch=False))
    assert message.startswith("source docs has in_batch: false, and no negatives of its 16 records are taken")
    assert check(make(HARD, TaskSpec(8), in_batch=False)) == ""


@pytest.mark.parametrize("in_batch", [True, False])
def test_records_that_alone_teach_nothing_are_counted(make, caplog, in_batch):
    with caplog.at_level(logging.WARNING):
        make(SOME, TaskSpec(1), in_batch=in_batch).describe(1, 1)
    assert "5 of its 16 records have no negatives: they teach nothing" in caplog.text


def test_a_source_of_one_document_is_refused_and_one_of_two_is_not(make):
    """All others of the batch are equal to the positive, so they are masked and the loss is 0 for ever."""
    one = [ir(i, positives=[text]) for i, text in enumerate(["The answer", "the  answer"] * 100)]
    assert "have one and the same document, 'The answer'" in check(make(one, TaskSpec(8)))
    sorted_by_document = [*one[:130], *(ir(i, positives=["another"]) for i in range(70))]
    assert check(make(sorted_by_document, TaskSpec(8))) == ""


def test_a_graded_list_of_one_is_refused(make):
    assert "each with 1 scored document: a list of one, whose loss is constant" in check(
        make(PAIRS, TaskSpec(1))
    )
    assert "a list of one" in check(make(PAIRS, TaskSpec(4)), 1, 4)
    assert check(make(PAIRS, TaskSpec(2)), 2, 1) == ""
    lists = [record | {"positives": ["a", "b"], "positive_scores": [0, 1]} for record in PAIRS]
    assert check(make(lists, TaskSpec(1))) == ""
    assert "a list of one" in check(make(lists, TaskSpec(1, num_positives=1, num_negatives=0)))


def test_a_graded_source_of_equal_scores_is_named(make, caplog):
    with caplog.at_level(logging.WARNING):
        make([record | {"positive_scores": [1]} for record in PAIRS], TaskSpec(4)).describe(1, 1)
    assert "all scores of its 16 records are equal (1 of [0, 1])" in caplog.text


def test_a_mixed_source_teaches_by_its_graded_lists_or_its_negatives(make):
    bare = [record | {"task_type": "mixed"} for record in BARE]
    assert "and no negatives of its 16 records" in check(make(bare, TaskSpec(1)))
    graded = [*bare[1:], bare[0] | {"positives": ["a", "b"], "positive_scores": [0, 1]}]
    assert check(make(graded, TaskSpec(1))) == ""


def test_raw_text_without_a_token_to_predict_is_refused(make):
    spec = TaskSpec(2, mask_share=0.5, predict_from="embedding")
    texts = [{"task_type": "lm", "text": "a"}] * 6
    with pytest.raises(UserError, match="source docs: none of its 6 texts has a token to predict"):
        make(texts, spec).try_every_source()
    make([*texts, {"task_type": "lm", "text": "a longer text"}], spec).try_every_source()


def test_a_source_smaller_than_its_batch_is_refused_with_both_numbers(make):
    with pytest.raises(UserError, match=r"source docs has 16 examples, fewer than one batch: .*=17"):
        make(BARE, TaskSpec(17))
