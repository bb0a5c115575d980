"""Finds out once whether the Hugging Face hub can be reached, and makes cached datasets usable without it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import datasets
from datasets.exceptions import DatasetNotFoundError
from datasets.naming import camelcase_to_snakecase
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from mteb.abstasks import AbsTask, AbsTaskRetrieval, retrieval_dataset_loaders

TIMEOUT_SECONDS = 5.0
NETWORK_LIBRARIES = ("httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp")


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
        if not hub_is_reachable():
            self.is_offline = True
            self._stack.enter_context(offline())
            self._report("The Hugging Face hub cannot be reached: only datasets in the local cache are used.")


def hub_is_reachable() -> bool:
    """One short request. Without it, every dataset would cost 23 seconds of retries before it fails."""
    if constants.is_offline_mode() or datasets.config.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_SECONDS)
    except Exception as error:
        if is_unavailable(error):
            return False
        raise
    return True


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


def is_unavailable(error: BaseException) -> bool:
    """Whether loading failed because the dataset cannot be had, and not because something is broken."""
    had_not = (ConnectionError, TimeoutError, DatasetNotFoundError, HfHubHTTPError)
    if isinstance(error, (*had_not, LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return True
    from_network = type(error).__module__.split(".")[0] in NETWORK_LIBRARIES
    return from_network or str(error).startswith("Couldn't find cache for")  # cached in part only


def cached_configs(path: str, revision: str | None = None) -> list[str]:
    """The configs of a dataset that are in the local cache."""
    configs = sorted({folder.parts[-3] for folder in _cached_folders(path)})
    if not configs:
        raise ConnectionError(f"{path} is not in the local cache")
    return configs


def revision_used(task: AbsTask) -> str:
    """The dataset revision behind a score: a local folder's hash, the cached commit offline, else the pin."""
    if (local := getattr(task, "revision", None)) is not None:
        return str(local)
    if constants.is_offline_mode():  # then `datasets` takes the newest cached commit, whatever is asked for
        folders = sorted(
            _cached_folders(task.metadata.dataset["path"]), key=lambda folder: folder.stat().st_mtime
        )
        if folders:
            return folders[-1].name
    return task.metadata.dataset["revision"]


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
