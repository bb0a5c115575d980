"""The default recipe on the golden files in this process, as run_train.py composes and assembles it."""

from pathlib import Path

import pytorch_lightning as pl
from hydra import compose, initialize_config_dir

from codiemb.config.assemble import assemble
from codiemb.config.schema import register
from codiemb.config.typed import typed_train
from codiemb.training.module import EmbeddingModule
from tests.support.paths import CONF, GOLDEN

_SETTINGS = (
    "data=files",
    f"data.files=[{GOLDEN}/ir.jsonl,{GOLDEN}/sts.jsonl]",
    "data.num_workers=0",
    f"model.tokenizer={GOLDEN}/tokenizer",
    "model.max_tokens=64",
    "tasks.ir.global_batch_size=16",
    "tasks.sts.global_batch_size=16",
    "trainer.accelerator=cpu",
    "+trainer.enable_progress_bar=false",
    "callbacks.progress=null",
    "callbacks.checkpoint=null",
    "logger=local",
)


def fit(folder: Path, *overrides: str, callbacks: tuple[pl.Callback, ...] = ()) -> EmbeddingModule:
    """Train with `overrides` in `folder`; `callbacks` come after the recipe's own."""
    register()
    places = (f"run_dir={folder}", f"data.cache={folder}/cache")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = typed_train(compose("train", [*places, *_SETTINGS, *overrides]))
    pl.seed_everything(cfg.seed, verbose=False)
    run = assemble(cfg)
    run.trainer.callbacks.extend(callbacks)
    run.trainer.fit(run.module, datamodule=run.data)
    return run.module
