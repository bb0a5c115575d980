"""Workers and resuming do not change a batch: the order is known for every step."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from codiemb.batch import Batch
from codiemb.data import Proportional, SourceFile, TaskSpec
from codiemb.errors import UserError
from codiemb.training.datamodule import EmbeddingDataModule


def record(task, number, instructions=True):
    scores = {"positive_scores": [number % 5 / 4]} if task == "sts" else {"negatives": [f"n{number}", "n"]}
    return {
        "task_type": task,
        "query": [f"do {task}" if instructions else "", "", f"q {number}"],
        "positives": [f"p {number}"],
    } | scores


@pytest.fixture
def make_data(write_lines, tmp_path, tokenizer):
    def make(*, ir_in_batch=True, tasks_in=("ir", "sts"), bare=(), **options):
        files = [
            SourceFile(
                task,
                write_lines([record(task, i, task not in bare) for i in range(size)], name=f"{task}.jsonl"),
                in_batch=ir_in_batch or task == "sts",
            )
            for task, size in (("ir", 50), ("sts", 30))
            if task in tasks_in
        ]
        tasks = {"ir": TaskSpec(8, num_negatives=1), "sts": TaskSpec(4)}
        options = {"tasks": tasks, "seed": 3, "cache": tmp_path / "cache"} | options
        data = EmbeddingDataModule(files, options.pop("tasks"), Proportional(), tokenizer, **options)
        data.prepare_data()
        data.setup()
        return data

    return make


def loader(data, **trainer):
    trainer = {"global_step": 0, "global_rank": 0, "world_size": 1, "accumulate_grad_batches": 1} | trainer
    data.trainer = SimpleNamespace(**trainer)
    return data.train_dataloader()


def flat(batch):
    """Everything in a batch, as comparable values."""
    assert isinstance(batch, Batch)
    texts = (batch.texts.input_ids_T.tolist(), batch.texts.sequence_lengths, batch.texts.prompt_lengths)
    return (
        *batch[:2],
        *texts,
        *(tensor.nan_to_num(-1).tolist() for tensor in (*batch[3:5], *batch.groups[:-1])),
    )


def test_two_workers_give_the_same_batches_in_the_same_order_as_none(make_data):
    alone = [flat(batch) for batch in loader(make_data(num_workers=0, max_steps=12))]
    workers = [flat(batch) for batch in loader(make_data(num_workers=2, max_steps=12))]
    assert len(alone) == 12
    assert {batch[0] for batch in alone} == {"ir", "sts"}
    assert workers == alone
    batches = make_data(max_steps=12).batches()
    assert alone == [flat(batches[step]) for step in range(12)]  # untouched by the loader, types included


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loader_starts_at_the_trainer_s_step_and_counts_as_the_whole_run(
    make_data, num_workers, accumulation
):
    data = make_data(max_steps=15, num_workers=num_workers)
    batches = data.batches(accumulation=accumulation)
    whole = [flat(batches[micro_step]) for micro_step in range(len(batches))]
    for step in (1, 7, 14, 15):
        rest = loader(data, global_step=step, accumulate_grad_batches=accumulation)
        assert len(rest) == len(batches)
        assert [flat(batch) for batch in rest] == whole[step * accumulation :]


def test_ranks_and_micro_steps_share_out_the_batch_of_one_process(make_data):
    data = make_data(max_steps=6)
    whole = list(loader(data))
    parts = [list(loader(data, global_rank=r, world_size=2, accumulate_grad_batches=2)) for r in range(2)]
    assert [len(part) for part in parts] == [12, 12]
    for step, batch in enumerate(whole):
        micro = [parts[rank][2 * step + a] for a in range(2) for rank in range(2)]
        assert {part.task for part in micro} == {batch.task}
        assert (
            torch.cat([part.groups.query_hash_B for part in micro]).tolist()
            == batch.groups.query_hash_B.tolist()
        )
        assert (
            torch.cat([part.groups.document_hash_N for part in micro]).tolist()
            == batch.groups.document_hash_N.tolist()
        )


def test_a_file_whose_records_have_only_their_own_negatives_says_so_in_its_batches(make_data):
    data = make_data(max_steps=12)
    assert all(batch.groups.in_batch for batch in data.batches())
    own = make_data(max_steps=12, ir_in_batch=False)
    assert {(batch.source, batch.groups.in_batch) for batch in own.batches()} == {
        ("ir", False),
        ("sts", True),
    }


def test_a_file_of_own_negatives_of_which_none_are_taken_is_refused(make_data):
    tasks = {"ir": TaskSpec(8, num_negatives=0), "sts": TaskSpec(4)}
    with pytest.raises(UserError, match=r"source ir has in_batch: false, and no negatives .*tasks\.ir"):
        make_data(tasks=tasks, ir_in_batch=False).describe(1, 1)


def test_iterating_ends_with_the_run(make_data):
    assert len(list(itertools.islice(iter(make_data(max_steps=3).batches()), 10))) == 3


@pytest.mark.parametrize(
    ("options", "steps"),
    [({"epochs": 1}, 13), ({"epochs": 2.5}, 32), ({"epochs": 0.01}, 1), ({"max_steps": 5, "epochs": 9}, 5)],
)
def test_the_run_is_as_long_as_the_config_says(make_data, options, steps):
    data = make_data(**{key: float(value) if key == "epochs" else value for key, value in options.items()})
    assert data.plan.steps_per_epoch == 50 // 8 + 30 // 4
    assert data.num_steps == steps
    assert len(data.batches(accumulation=2)) == 2 * steps


def test_describe_names_sources_sizes_and_steps(make_data):
    lines = make_data(max_steps=1_000).describe(2, 2).splitlines()
    assert lines[0] == "ir: 50 ir examples, global batch 8 = 2 x 2 ranks x 2 accumulated"
    assert lines[-1] == "1,000 steps, 13 an epoch"


def test_a_batch_that_does_not_divide_by_the_ranks_is_an_error_before_training(make_data):
    data = make_data(max_steps=1)
    for check in (lambda: data.describe(3, 1), lambda: data.batches(num_ranks=3)):
        with pytest.raises(UserError, match=r"global_batch_size=8 does not divide by 3 ranks"):
            check()


def test_a_task_without_settings_is_an_error_that_names_source_and_key(make_data):
    with pytest.raises(UserError, match=r"source sts holds .*'sts', .* no tasks\.sts; known: ir"):
        make_data(tasks={"ir": TaskSpec(8)})


def test_instructions_are_those_of_the_first_records_ir_first(make_data):
    assert list(make_data(max_steps=1).instructions().items()) == [("ir", "do ir"), ("sts", "do sts")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "do ir"),
        ({"bare": ["sts"]}, "do ir"),
        ({"bare": ["ir"]}, ""),  # never the STS source's: its queries had none in training
        ({"bare": ["ir", "sts"]}, ""),
        ({"tasks_in": ["sts"]}, "do sts"),
    ],
    ids=str,
)
def test_the_query_instruction_is_the_ir_sources_even_if_that_has_none(make_data, options, expected):
    assert make_data(max_steps=1, **options).query_instruction() == expected


def test_a_run_goes_on_with_the_data_of_its_checkpoint_only(make_data, write_lines):
    then = make_data().state_dict()
    make_data().load_state_dict(then)
    make_data().load_state_dict({name: about[:2] for name, about in then.items()})  # of an older version
    turned = dict(reversed(then.items()))
    with pytest.raises(UserError, match=r"have changed .*\n  their order: sts, ir then, ir, sts now"):
        make_data().load_state_dict(turned)
    other = make_data(bare=("ir",))  # as many records, and other texts
    with pytest.raises(
        UserError, match=r"\n  ir: 50 ir examples \(\w{8}\) then, 50 ir examples \(\w{8}\) now"
    ):
        other.load_state_dict(then)
    with pytest.raises(UserError, match=r"\n  sts: 30 sts examples \(\w{8}\) then, not there now"):
        make_data(tasks_in=("ir",)).load_state_dict(then)
