"""The Lightning data module: convert files once, plan the run, serve this rank's single-task batches."""

import atexit
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from codiemb.batch import AnyBatch, LanguageBatch
from codiemb.data.batches import PlannedBatches
from codiemb.data.collator import Collator
from codiemb.data.conversion import convert
from codiemb.data.mined import MinedNegatives
from codiemb.data.plan import Plan, PlannedSource, Schedule, micro_batch_size
from codiemb.data.records import GRADED_TASKS, MIXED_TASKS
from codiemb.data.source import Source, open_sources
from codiemb.data.source_file import SourceFile
from codiemb.data.task_spec import TaskSpec
from codiemb.data.teaching import check_predictable, check_teaches
from codiemb.encoder.tokenization import TextTokenizer
from codiemb.errors import UserError
from codiemb.mining.spec import RefreshSpec
from codiemb.training.loader import FromStep, PlannedLoader, as_it_is
from codiemb.training.signals import end_workers, serve_the_trainer

log = logging.getLogger(__name__)


class EmbeddingDataModule(pl.LightningDataModule):
    """Batches are a pure function of (seed, step): the loader's sampler only says where to start.

    Args:
        files: what to train on.
        tasks: batch sizes and token limits by task.
        schedule: how steps are shared among sources.
        tokenizer: of the model, with its prompts.
        seed: of the plan and of the choice of positives and negatives.
        cache: folder of the Arrow files.
        skip_bad: go on without bad records (they go to `rejects`).
        rejects: where skipped lines are written.
        num_converters: processes that convert files side by side, at most; None: see `useful_processes`.
        num_workers: processes that tokenise ahead of training.
        prefetch: batches that each worker keeps ready.
        epochs: length of the run in passes over the sources.
        max_steps: length of the run in optimizer steps, instead of `epochs`.
        batches_per_step: single-task batches of one optimizer step: their losses are averaged.
        refresh: negatives that are mined while training; None: those of the files.
    """

    def __init__(
        self,
        files: Sequence[SourceFile],
        tasks: dict[str, TaskSpec],
        schedule: Schedule,
        tokenizer: TextTokenizer,
        *,
        seed: int,
        cache: Path,
        skip_bad: bool = False,
        rejects: Path | None = None,
        num_converters: int | None = None,
        num_workers: int = 0,
        prefetch: int = 4,
        epochs: float = 1.0,
        max_steps: int | None = None,
        batches_per_step: int = 1,
        refresh: RefreshSpec | None = None,
    ) -> None:
        super().__init__()
        self.files = files
        self.tasks = tasks
        self.schedule = schedule
        self.tokenizer = tokenizer
        self.seed = seed
        self.cache = cache
        self.skip_bad = skip_bad
        self.rejects = rejects
        self.num_converters = num_converters
        self.num_workers = num_workers
        self.prefetch = prefetch
        self.epochs = epochs
        self.max_steps = max_steps
        self.batches_per_step = batches_per_step
        self.refresh = refresh
        self.mined: MinedNegatives | None = None  # by `RefreshNegatives`, for the loader
        self.num_steps = 0  # optimizer steps of the run, known after `setup`
        self.sources: list[Source] = []
        self.plan: Plan | None = None
        self._is_prepared = False

    @override
    def prepare_data(self) -> None:
        """Validate and convert the files, on one process only; reads and hashes what was converted before."""
        if not self._is_prepared:  # the trainer asks a second time
            convert(
                self.files,
                self.cache,
                skip_bad=self.skip_bad,
                rejects=self.rejects,
                num_processes=self.num_converters,
            )
            self._is_prepared = True

    @override
    def setup(self, stage: str | None = None) -> None:
        """Open the sources and lay out the plan: the same on every rank, without communication."""
        if self.plan is not None:
            return
        self.sources = open_sources(self.files, self.cache)
        planned = []
        for source in self.sources:
            if source.task not in self.tasks:
                raise UserError(
                    f"source {source.name} holds records of task {source.task!r}, "
                    f"for which the config has no tasks.{source.task}; known: {', '.join(sorted(self.tasks))}"
                )
            size = self.tasks[source.task].global_batch_size
            planned.append(PlannedSource(source.name, source.task, len(source), size))
        self.plan = Plan(planned, self.schedule, self.seed)
        self.num_steps = self.max_steps or max(1, round(self.epochs * self._steps_per_epoch(self.plan)))

    def _steps_per_epoch(self, plan: Plan) -> float:
        return plan.steps_per_epoch / self.batches_per_step

    def describe(self, num_ranks: int, accumulate_grad_batches: int) -> str:
        """The sources, their batches and the length of the run, one line each.

        Args:
            num_ranks: that share a batch.
            accumulate_grad_batches: micro-batches of an optimizer step, as the trainer has it.

        Raises:
            UserError: a global batch size does not divide by ranks x accumulation, or batches teach nothing.
        """
        assert self.plan is not None
        accumulation = accumulate_grad_batches // self.batches_per_step
        check_teaches(self.sources, self.plan, self.tasks, num_ranks, accumulation)
        lines = []
        for source in self.plan.sources:
            size = micro_batch_size(source, num_ranks, accumulation)
            lines.append(
                f"{source.name}: {source.num_examples:,} {source.task} examples, global batch "
                f"{source.global_batch_size} = {size} x {num_ranks} ranks x {accumulation} accumulated"
            )
        shared = f" of {self.batches_per_step} batches" if self.batches_per_step > 1 else ""
        an_epoch = f"{round(self._steps_per_epoch(self.plan)):,} an epoch"
        return "\n".join([*lines, f"{self.num_steps:,} steps{shared}, {an_epoch}"])

    def instructions(self) -> dict[str, str]:
        """Each source's instruction, that of its first record; IR sources first."""
        named = {}
        for source in sorted(self.sources, key=lambda source: source.task in GRADED_TASKS):
            if instruction := source[0].query.instruction:
                named[source.name] = instruction
        return named

    def query_instruction(self) -> str:
        """What the queries of the first IR source are given; of the first source if none is IR."""
        retrieval = [source for source in self.sources if source.task in ("ir", *MIXED_TASKS)]
        first = next(iter(retrieval or self.sources), None)
        return "" if first is None else first[0].query.instruction

    def refreshed_sources(self) -> dict[int, Source]:
        """By number, those whose negatives are mined while training.

        Not those of which another record's documents may be right as well (`in_batch: false`).
        """
        return {
            number: source
            for number, source in enumerate(self.sources)
            if source.task == "ir" and source.in_batch
        }

    def batches(
        self, *, rank: int = 0, num_ranks: int = 1, accumulation: int = 1, mined: MinedNegatives | None = None
    ) -> PlannedBatches:
        """The run's batches as a rank sees them; checks that all sizes divide and that batches can teach."""
        assert self.plan is not None
        check_teaches(self.sources, self.plan, self.tasks, num_ranks, accumulation)
        return PlannedBatches(
            self.sources,
            self.plan,
            Collator(self.tokenizer, self.tasks, self.seed),
            num_batches=self.num_steps * self.batches_per_step,
            rank=rank,
            num_ranks=num_ranks,
            accumulation=accumulation,
            mined=mined,
        )

    def target_counts(self, vocabulary: int, num_steps: int = 50) -> Float[Tensor, " V"]:
        """1 + how often each token is to be predicted in the run's first steps: the same on every rank."""
        counts_V = torch.ones(vocabulary)
        batches = self.batches()
        for step in range(min(num_steps, len(batches))):
            batch = batches[step]
            if isinstance(batch, LanguageBatch):
                counts_V += batch.target_P.bincount(minlength=vocabulary)
        return counts_V

    def try_every_source(self) -> None:
        """Tokenise the longest instructions of each source: a prompt that fills its limit stops the run here.

        Raises:
            UserError: what the tokenizer has to say, with the source's name.
        """
        collator = Collator(self.tokenizer, self.tasks, self.seed)
        for source in self.sources:
            try:
                for record in source.longest:
                    collator([record], source=source.name, epoch=0, indices=[0])
                collator([source[0]], source=source.name, epoch=0, indices=[0])
                check_predictable(source, collator)
            except UserError as error:
                raise UserError(f"source {source.name}: {error}") from error

    @override
    def train_dataloader(self) -> DataLoader[AnyBatch]:
        """One item is one finished batch; the order is the plan's, from the trainer's step on."""
        trainer = self.trainer
        assert trainer is not None
        if self.refresh is not None and self.refresh.every_n_steps is not None:
            every_n_batches = self.refresh.every_n_steps * self.batches_per_step
            self.mined = MinedNegatives(self.refreshed_sources(), self.refresh.num_negatives, every_n_batches)
        batches = self.batches(
            rank=trainer.global_rank,
            num_ranks=trainer.world_size,
            accumulation=trainer.accumulate_grad_batches // self.batches_per_step,
            mined=self.mined,
        )
        atexit.register(end_workers)
        return PlannedLoader(
            batches,
            batch_size=None,
            collate_fn=as_it_is,
            sampler=FromStep(trainer.global_step * trainer.accumulate_grad_batches, len(batches)),
            worker_init_fn=serve_the_trainer,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch if self.num_workers else None,
            persistent_workers=self.num_workers > 0,
        )

    @override
    def state_dict(self) -> dict[str, Any]:
        """The sources as the plan sees them, in its order, for the check on resuming."""
        return {source.name: [source.task, len(source), source.digest] for source in self.sources}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A plan over other data is another order.

        Raises:
            UserError: the sources are not those that the checkpoint was trained on.
        """
        now = self.state_dict()
        changed = [
            f"  {name}: {_described(state_dict.get(name))} then, {_described(now.get(name))} now"
            for name in sorted(state_dict.keys() | now.keys())
            if _differs(state_dict.get(name), now.get(name))
        ]
        if not changed and list(state_dict) != list(now):  # a source's number draws its order
            changed = [f"  their order: {', '.join(state_dict)} then, {', '.join(now)} now"]
        if changed:
            raise UserError(
                "the training files have changed since the checkpoint:\n" + "\n".join(changed) + "\n"
                "Restore them, or start a new run"
            )


def _differs(then: list[Any] | None, now: list[Any] | None) -> bool:
    """Checkpoints of older versions do not know the content of the files."""
    return then != now if then is None or now is None else then != now[: len(then)]


def _described(source: list[Any] | None) -> str:
    """The content in 8 digits: who sees two that differ needs no more."""
    if source is None:
        return "not there"
    task, count, *digests = source
    return f"{count:,} {task} examples" + "".join(f" ({digest[:8]})" for digest in digests)
