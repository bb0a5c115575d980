"""What `--help` says: the usual commands and the groups of conf/, in a second, without the whole config."""

import textwrap
from pathlib import Path
from typing import Any

import yaml

_GROUPS = {
    "train": "stage model data losses sampler optimizer schedule strategy trainer task logger experiment "
    "debug",
    "eval": "model task",
}
_NESTED = "experiment"  # files in its sub-folders are its own; sub-folders elsewhere are groups
_FILLED = 110  # columns
_TEXT = {
    "train": """\
Train an embedding model: python run_train.py GROUP=FILE KEY=VALUE ...

  python run_train.py debug=default              # ten steps: does it run at all?
  python run_train.py experiment=first           # MiniLM on the builtin data, as `make train`
  python run_train.py data=files data.files=[ir.jsonl,sts.jsonl] model=pretrained model.path=FOLDER_OR_HUB_ID
  python run_train.py resume=true                # goes on with the newest unfinished run
  python run_train.py -m seed=1,2,3              # a sweep: one run for each value

GROUP=FILE takes a file of conf/GROUP. The one in brackets is taken where none is named.

{groups}

KEY=VALUE sets one key: max_steps=500, epochs=2, model.learning_rate=1e-4, model.lora.r=16,
tasks.ir.global_batch_size=128, losses.ir.info_nce.temperature=0.05. `--cfg job` prints the composed config
and runs nothing. docs/configuration.md has every key, docs/data.md the format of your files.
A run writes outputs/STAGE/TIME.
""",
    "eval": """\
Evaluate an embedding model: python run_eval.py GROUP=FILE KEY=VALUE ...

  python run_eval.py model.path=FOLDER_OR_HUB_ID                              # the seven builtin tasks
  python run_eval.py task=nano model.path=FOLDER_OR_HUB_ID                    # a part of each, in seconds
  python run_eval.py task=folder task.data=DIR model.path=FOLDER_OR_HUB_ID    # your own texts
  python run_eval.py task=cmteb model.path=FOLDER_OR_HUB_ID                   # the 31 tasks of MTEB(cmn, v1)
  python run_eval.py task=mteb task.tasks=[STS17] model.path=FOLDER_OR_HUB_ID
  python run_eval.py compare=[A,B]               # two folders of results: what differs, and is it noise?

GROUP=FILE takes a file of conf/GROUP. The one in brackets is taken where none is named.

{groups}

`--cfg job` prints the composed config and runs nothing. docs/evaluation.md says how your own texts are laid
out and what the numbers mean, docs/models.md which models there are. A run writes outputs/eval/TIME.
""",
}


def usage(conf: Path, root: str) -> str:
    """The text of `--help`; `root` is the config in `conf` that the script begins with: train or eval."""
    taken = _taken_by_default(conf / f"{root}.yaml")
    lines = [_line(conf, group, taken.get(group)) for group in _GROUPS[root].split()]
    return _TEXT[root].format(groups="\n".join(lines))


def options_of(conf: Path, group: str) -> list[str]:
    """What GROUP=FILE takes."""
    folder = conf / group
    files = folder.rglob("*.yaml") if group == _NESTED else folder.glob("*.yaml")
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in files)


def _taken_by_default(file: Path) -> dict[str, str | None]:
    entries: list[Any] = yaml.safe_load(file.read_text("utf-8"))["defaults"]
    return {group: choice for entry in entries if isinstance(entry, dict) for group, choice in entry.items()}


def _line(conf: Path, group: str, default: str | None) -> str:
    shown = ", ".join(f"[{name}]" if name == default else name for name in options_of(conf, group))
    return textwrap.fill(f"  {group + '=':<12}{shown}", _FILLED, subsequent_indent=" " * 14)
