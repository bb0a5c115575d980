"""What the keys that other packages define mean, in our words: type and meaning, by `_target_` or group."""

_MODEL_RATE = "peak step size; `model.learning_rate` unless it is set here"
_WAIT = "seconds that a rank waits for another; `callbacks.stop_together` notices dead ones sooner"

OTHERS: dict[str, dict[str, tuple[str, str]]] = {
    "torch.optim.AdamW": {
        "lr": ("float", _MODEL_RATE),
        "betas": ("list of float", "decay of the two moving averages, of the gradient and of its square"),
        "weight_decay": ("float", "decoupled from the gradient; published: 0"),
        "fused": ("bool", "one kernel for all parameters instead of several for each"),
    },
    "torch.optim.SGD": {
        "lr": ("float", _MODEL_RATE),
        "momentum": ("float", "share of the last step that the next one keeps"),
    },
    "pytorch_lightning.strategies.DDPStrategy": {"timeout": ("int", _WAIT)},
    "codiemb.training.FSDP2": {
        "save_distributed_checkpoint": (
            "bool",
            "a folder of one file a rank; false writes one file, which any number of ranks resumes",
        ),
        "timeout": ("int", _WAIT),
    },
    "codiemb.training.DeepSpeed": {
        "timeout": ("int", _WAIT),
        "config.zero_allow_untested_optimizer": ("bool", "take the optimizer of the config, whatever it is"),
        "config.train_micro_batch_size_per_gpu": ("int", "only DeepSpeed's log reads it"),
        "config.zero_optimization.stage": (
            "int",
            "1 shards the optimizer's state, 2 also gradients, 3 also weights",
        ),
        "config.zero_optimization.stage3_max_reuse_distance": (
            "int",
            "stage 3 keeps weights that are used again within so many; 0 frees them at once, and saves a "
            "search whose time grows with the square of the number of chunks",
        ),
    },
    "trainer": {
        "accelerator": ("str", "`auto` takes CUDA where there is a card, else the CPU; or `gpu`, `cpu`"),
        "devices": ("int or list of int", "ranks on this machine; more than one needs a `strategy`"),
        "num_nodes": ("int", "machines"),
        "precision": (
            "str",
            "`32-true`; `bf16-mixed` computes in bf16 on fp32 weights; `bf16-true` with DeepSpeed only",
        ),
        "accumulate_grad_batches": (
            "int",
            "cuts a global batch into so many parts; negatives and STS lists come from one part only, so see "
            "`encoder.max_tokens_per_chunk` first",
        ),
        "gradient_clip_val": ("float or null", "largest norm of the whole gradient; null does not clip"),
        "log_every_n_steps": ("int", "optimizer steps between two lines of the loggers"),
        "enable_model_summary": ("bool", "Lightning's table of parameters; one line says it already"),
        "max_epochs": (
            "int",
            "stays 1, one pass over the plan: `epochs` and `max_steps` make it long or short",
        ),
        "on_nan": (
            "str",
            "a loss or gradient that is not finite: `raise`, or `skip` (drop the step and count it)",
        ),
    },
    "codiemb.callbacks.ProgressBar": {"refresh_rate": ("int", "batches between two updates of the bar")},
    "pytorch_lightning.callbacks.LearningRateMonitor": {
        "logging_interval": ("str", "`step` or `epoch`"),
    },
    "pytorch_lightning.loggers.CSVLogger": {
        "save_dir": ("str", "the run folder"),
        "name": ("str", "folder in it: `csv/metrics.csv`"),
        "version": ("str", "folder in that; empty for none"),
    },
    "pytorch_lightning.loggers.WandbLogger": {
        "project": ("str", "of W&B"),
        "name": (
            "str",
            "of the run in W&B; null: stage, model, seed and, in a sweep, its overrides",
        ),
        "group": ("str", "of runs in W&B; null: the sweep that a job belongs to"),
        "tags": ("list", "of the run in W&B; null: stage, model, data, losses, experiment"),
        "save_dir": ("str", "the run folder: W&B writes its own folder there"),
        "log_model": ("bool", "whether W&B gets `export/` as an artifact, at the end"),
    },
    "pytorch_lightning.loggers.TensorBoardLogger": {
        "save_dir": ("str", "the run folder"),
        "name": ("str", "folder in it, of the event files"),
        "version": ("str", "folder in that; empty for none"),
        "default_hp_metric": ("bool", "a placeholder, -1, beside the hyper-parameters"),
    },
    "hydra/launcher/slurm": {
        "nodes": ("int", "machines of a job"),
        "tasks_per_node": ("int", "one for each device: Lightning finds its ranks in Slurm's environment"),
        "gpus_per_node": ("int", "one for each device"),
        "cpus_per_task": ("int", "cores of a rank, its loader's workers included"),
        "timeout_min": ("int", "minutes that Slurm gives a job"),
        "signal_delay_s": ("int", "seconds before the end at which a job is told to save"),
        "max_num_timeout": (
            "int",
            "how often a job out of time is queued again; `resume=true` lets it go on",
        ),
    },
    "hydra/sweeper/search": {
        "sampler.seed": ("int", "the same seed proposes the same trials"),
        "direction": ("str", "`maximize`: a run returns the mean of its task scores"),
        "n_jobs": ("int", "trials at once; with 1, a search started again in its folder is the same search"),
        "max_failure_rate": (
            "float",
            "share of failed runs that ends the search; 1.0: each costs its trial only",
        ),
    },
}
