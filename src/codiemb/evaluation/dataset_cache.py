"""Finds out once whether the Hugging Face hub can be reached, and makes cached datasets usable without it."""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import datasets
from datasets.naming import camelcase_to_snakecase
from huggingface_hub import constants
from mteb.abstasks import AbsTask, AbsTaskRetrieval, retrieval_dataset_loaders

from codiemb.hub import hub_is_reachable


class Hub:
    """Asks once whether the hub answers, when a task first needs it; if not, the rest runs offline."""

    def __init__(self, stack: ExitStack, report: Callable[[str], object]) -> None:
        self._stack, self._report = stack, report
        self._checked = False
        self.is_offline = False

    def check(self, *, again: bool = False) -> None:
        """Go offline until the stack unwinds if the hub does not answer; `again` after a failed download."""
        if self.is_offline or (self._checked and not again):
            return
        self._checked = True
        if datasets.config.HF_HUB_OFFLINE or not hub_is_reachable():
            self.is_offline = True
            self._stack.enter_context(offline())
            self._report("The Hugging Face hub cannot be reached: only datasets in the local cache are used.")


@contextmanager
def offline() -> Iterator[None]:
    """As with HF_HUB_OFFLINE=1 (which is read at import), until the block ends: the local cache only."""
    with ExitStack() as stack:
        stack.enter_context(_replaced(constants, "HF_HUB_OFFLINE", True))
        stack.enter_context(_replaced(datasets.config, "HF_HUB_OFFLINE", True))
        # Offline, `datasets` names only one of a cached dataset's configs, and mteb then drops the
        # candidates of a reranking task without a word and scores it as full retrieval.
        stack.enter_context(_replaced(retrieval_dataset_loaders, "get_dataset_config_names", cached_configs))
        yield


def why_not_had(error: BaseException) -> str:
    """The end of a sentence that starts with the dataset, short enough for one line of a report."""
    if type(error) is FileNotFoundError:  # its message is about files that could be in the working folder
        return "was not found on the hub"
    return f"cannot be had: {textwrap.shorten(str(error) or type(error).__name__, 70)}"


def cached_configs(path: str, revision: str | None = None) -> list[str]:
    """The configs of a dataset that are in the local cache."""
    configs = sorted({folder.parts[-3] for folder in _cached_folders(path)})
    if not configs:
        raise ConnectionError(f"{path} is not in the local cache")
    return configs


def revision_used(task: AbsTask) -> str:
    """The dataset revision behind a score: a local folder's hash, or the commit that was loaded.

    When the hub fails, `datasets` takes the newest commit in its cache, whatever was asked for.
    """
    if (local := getattr(task, "revision", None)) is not None:
        return str(local)
    pinned = task.metadata.dataset["revision"]
    folders = sorted(
        _cached_folders(task.metadata.dataset["path"]), key=lambda folder: folder.stat().st_mtime
    )
    commits = [folder.name for folder in folders]
    if not commits or (pinned in commits and not constants.is_offline_mode()):
        return pinned
    return commits[-1]


def has_candidates(task: AbsTask) -> bool:
    """Whether a reranking task got its candidates; true for every other type."""
    if task.metadata.type != "Reranking" or not isinstance(task, AbsTaskRetrieval):
        return True
    return all(data["top_ranked"] for splits in task.dataset.values() for data in splits.values())


def _cached_folders(path: str) -> list[Path]:
    """CACHE/OWNER___name/CONFIG/VERSION/COMMIT, the layout in which `datasets` looks for cached data."""
    *owner, name = path.split("/")
    root = Path(datasets.config.HF_DATASETS_CACHE).expanduser() / "___".join(
        [*owner, camelcase_to_snakecase(name)]
    )
    return [folder for folder in root.glob("*/*/*") if folder.is_dir()]


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
