"""The typed roots of train.yaml and eval.yaml: an unknown key dies here, before anything is built."""

import functools
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from codiemb.config.local_copy import folder_or
from codiemb.config.precision import fast_precision
from codiemb.config.resume import new_or_unfinished_run
from codiemb.config.run_lock import new_folder
from codiemb.data.task_spec import TaskSpec
from codiemb.encoder.spec import ModelSpec
from codiemb.fusion.method import FusionSpec
from codiemb.mining.spec import RefreshSpec


@dataclass
class SourceConfig:
    """One source of training data.

    Attributes:
        path: JSON lines (.gz and .zst too) or Parquet; or a pattern (`train-*.parquet`), or a list of paths
            and patterns: the shards of the source, in this order (those of a pattern sorted).
        score_range: the lowest and highest gold score it uses.
        in_batch: false where another record's documents may be right as well (labels, lists to rank): InfoNCE
            then takes a record's own negatives only.
    """

    path: Any = MISSING
    score_range: list[float] = field(default_factory=lambda: [0.0, 1.0])
    in_batch: bool = True


@dataclass
class DataConfig:
    """What to train on.

    Attributes:
        sources: files by name, each a SourceConfig (untyped here: OmegaConf could not add typed entries).
        files: shorter: a list of paths and patterns, each a source named after its file (a pattern: after
            what stands before its first wildcard), with `score_range` for all.
        score_range: the lowest and highest gold score of `files`.
        on_error: `raise`, or `skip` bad records (counted, and written to the run's rejects.jsonl).
        cache: folder of the converted Arrow files.
        num_converters: processes that convert files side by side, at most; null: one a CPU, at most 8, where
            the files that are not converted yet have 64 MiB or more, else none besides the run's own.
        num_workers: processes that tokenise ahead of training.
        prefetch: batches that each worker keeps ready.
    """

    sources: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    score_range: list[float] = field(default_factory=lambda: [0.0, 1.0])
    on_error: str = "raise"
    cache: str = "data/cache"
    num_converters: int | None = None
    num_workers: int = 1
    prefetch: int = 4


@dataclass
class EvaluationTaskConfig:
    """What to evaluate on.

    Attributes:
        name: `builtin`, `nano` (small parts of the builtin tasks), `cmteb`, `mteb` for any tasks by
            name, or `folder` for your own files.
        data: folder of the builtin data, or of your own.
        split: `dev` or `test` of the builtin data, or a side of your own.
        tasks: names to run; empty means all of the set.
        instructions: by task name or mteb task type; {query, document}.
        baseline: also show BM25 on retrieval tasks.
        per_query: keep the score of every query, pair and text, for `compare`.
        cache_gib: room of the embeddings that run_eval.py keeps for runs with the same weights; 0: none.
        cache: their folder.
    """

    name: str = "builtin"
    data: str = "data/builtin"
    split: str = "test"
    tasks: list[str] = field(default_factory=list)
    instructions: dict[str, Any] = field(default_factory=dict)
    baseline: bool = True
    per_query: bool = True
    cache_gib: float = 0.0
    cache: str = "data/cache/embeddings"


@dataclass
class EncoderConfig:
    """How the encoder of a training run computes.

    Attributes:
        max_tokens_per_chunk: token budget of one forward pass; larger batches run in chunks, with the same
            gradient and memory that depends on the budget only. null runs a batch at once.
        train_only: part of a name (embed_tokens); parameters that it does not occur in stay as they are.
        encode_precision: of evaluations: `32-true`, or `bf16-mixed` or `16-mixed`, which are faster where
            the machine has instructions for them, and move scores by some hundredths of a point.
    """

    max_tokens_per_chunk: int | None = None
    train_only: str | None = None
    encode_precision: str = "32-true"


@dataclass
class EvaluateConfig:
    """When a training run evaluates on `task`, and on the dev side: of the builtin tasks, or of your folder.

    Attributes:
        before: on `task`, before training; in stage=fuse, with `after`, the checkpoints.
        after: on `task`, after training or fusing.
        every_n_steps: on `dev_tasks` of the dev side, every so many optimizer steps; null never.
        dev_tasks: names of builtin tasks, or of small ones (NanoFramesSTS); with task=nano all of them are
            small. [] takes all of the dev side: nine, with task=nano seven. With task=folder names of your
            own, all unless you name some.
    """

    before: bool = True
    after: bool = True
    every_n_steps: int | None = None
    dev_tasks: list[str] = field(default_factory=lambda: ["FramesRetrieval", "FramesSTS"])


@dataclass
class ExportConfig:
    """The folder a run leaves.

    Attributes:
        enabled: write `export/`.
        verify: reload it through sentence-transformers and compare the embeddings.
        query_instruction: of `encode_query`; null takes the first IR source's, "" if that has none.
        dtype: of the weights it holds, `float32`, `bfloat16` or `float16`; null leaves them as they were
            trained. `verify` allows a cosine of 1e-6, 1e-3 and 5e-5 below 1.
        push_to_hub: USER/NAME: upload it when the run has ended, with the token in HF_TOKEN.
        onnx: refused today, with the reason (docs/export.md, ONNX).
    """

    enabled: bool = True
    verify: bool = True
    query_instruction: str | None = None
    dtype: str | None = None
    push_to_hub: str | None = None
    onnx: bool = False


@dataclass
class FuseConfig(FusionSpec):
    """What to fuse, and how (FusionSpec).

    Attributes:
        checkpoints: exports, run folders, Hugging Face folders or LoRA adapters.
        base: the model that all of them were trained from.
        search: choose on the dev side of the builtin tasks, or of task=folder: of several checkpoints first
            exponent and granularity (method=delta) or the weights (method=weighted), by the best mean; then,
            with a base, the scale: the best mean of those that are below the base in no task.
        search_exponents: those that a search tries.
        search_granularities: likewise; every one with every exponent.
        search_scales: likewise; and always 0 and 1. [] leaves the scale as it is.
        search_scale_exponents: likewise; every one with every scale between 0 and 1.
    """

    checkpoints: list[str] = field(default_factory=list)
    base: str | None = None
    search: bool = False
    search_exponents: list[float] = field(default_factory=list)
    search_granularities: list[str] = field(default_factory=list)
    search_scales: list[float] = field(default_factory=lambda: [0.3, 0.5, 0.7])
    search_scale_exponents: list[float] = field(default_factory=lambda: [0.0])


@dataclass
class RunConfig:
    """What training and evaluation share.

    Attributes:
        seed: of the order of the data, dropout, random weights and whatever else is drawn.
        run_dir: where the run writes; `hydra.run.dir=FOLDER` chooses it.
        resume: continue the run in the run folder: training from its last good checkpoint, an evaluation
            with the tasks whose results it lacks.
        model: the encoder.
        task: what to evaluate on.
    """

    seed: int = 49
    run_dir: str = MISSING
    resume: bool = False
    model: ModelSpec = field(default_factory=ModelSpec)
    task: EvaluationTaskConfig = field(default_factory=EvaluationTaskConfig)


@dataclass
class TrainConfig(RunConfig):
    """Root of train.yaml.

    Attributes:
        stage: name of the stage, for folders and tables.
        epochs: passes over the sources; fractions allowed.
        max_steps: optimizer steps, instead of `epochs`.
        batches_per_step: of an optimizer step, each of one task with its own loss; the losses are averaged.
            With sampler=alternate and as many sources, every step has all of them.
        data: what to train on.
        encoder: how the encoder runs in training.
        tasks: batch sizes and token limits by task.
        losses: by task, then by term: `_target_`, its arguments, and `weight`.
        refresh: hard negatives mined anew as training goes on.
        sampler, optimizer, schedule: `_target_` and its arguments.
        head_learning_rate: of a language-model head (stage=pretrain); None: the optimizer's.
        trainer: arguments of pytorch_lightning.Trainer.
        strategy: `_target_` and its arguments; or `name: auto`, for one device.
        logger, callbacks: by name: `_target_` and its arguments; null switches one off.
        evaluate: when to evaluate.
        export: the folder that a run leaves.
        fuse_with_start: end the run with an average of what it started from and what it became: how much of
            the way is kept, above 0 and below 1, or `search`, which chooses on the dev side; null does not.
        fuse: of stage=fuse, which fuses checkpoints instead of training one.
    """

    stage: str = MISSING
    epochs: float = 1.0
    max_steps: int | None = None
    batches_per_step: int = 1
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    losses: dict[str, Any] = field(default_factory=dict)
    refresh: RefreshSpec = field(default_factory=RefreshSpec)
    sampler: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    head_learning_rate: float | None = None
    strategy: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    fuse_with_start: Any = None  # float | str, which OmegaConf has no type for
    fuse: FuseConfig | None = None


@dataclass
class EvalConfig(RunConfig):
    """Root of eval.yaml.

    Attributes:
        table: folders of results to show side by side, instead of evaluating: runs of ours, or mteb's files.
        manifest: with `table`: the manifest of training files, or its folder, to say which tasks they were
            searched for.
        compare: two such folders, to say what differs and what is beyond noise.
        devices: how many of this machine share the encoding. Under torchrun: as many as it has started.
    """

    table: Any = field(default_factory=list)
    manifest: str = ""
    compare: Any = field(default_factory=list)
    devices: int = 1


@functools.cache  # 0.1 s, and tests run hundreds of scripts in one process
def register() -> None:
    """Make known to Hydra the roots, `train_schema` and `eval_schema`, and what finds and names folders."""
    OmegaConf.register_new_resolver("folder_or", folder_or, replace=True)
    OmegaConf.register_new_resolver("run_folder", new_or_unfinished_run, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("new_folder", new_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("fast_precision", fast_precision, replace=True)
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="eval_schema", node=EvalConfig)
