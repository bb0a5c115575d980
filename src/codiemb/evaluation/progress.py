"""One bar over all texts of an evaluation, with the time left, on a terminal; nothing elsewhere."""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from mteb.abstasks import AbsTask
from tqdm.auto import tqdm

from codiemb.json_files import numbered_lines

_PAIRS = ("STS", "PairClassification")  # two texts a sample


class EvaluationBar:
    """Counts texts of tasks that are still to be run.

    How many a task has is known exactly when it is done: until then it is what mteb's statistics or the
    task's files say, and the bar's total is put right afterwards.

    Args:
        tasks: those that will be run.
        shown: show it, if there is a terminal.
    """

    def __init__(self, tasks: Iterable[AbsTask], *, shown: bool) -> None:
        self._expected = {task.metadata.name: expected_texts(task) for task in tasks} if shown else {}
        self._before = 0  # texts of the tasks that are done
        self._bar = tqdm(
            total=sum(self._expected.values()),
            unit="text",
            leave=False,
            dynamic_ncols=True,
            disable=None if shown else True,  # None: where stderr is no terminal
        )

    def __enter__(self) -> "EvaluationBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def begin(self, place: str) -> None:
        """A task begins."""
        self._bar.set_description(place)

    def advance(self, num_texts: int) -> None:
        """So many more texts are encoded."""
        self._bar.update(num_texts)

    def end(self, task: str) -> None:
        """A task is done, or left out: as many texts as it had is what was to be expected of it."""
        if self._bar.disable:
            return
        self._bar.total += self._bar.n - self._before - self._expected.get(task, 0)
        self._before = self._bar.n
        self._bar.refresh()

    def say(self, report: Callable[[str], object], line: str) -> None:
        """A line above the bar."""
        self._bar.clear()
        report(line)
        self._bar.refresh()


def expected_texts(task: AbsTask) -> int:
    """About how many texts a task encodes; 0 where nothing tells."""
    folder: Path | None = getattr(task, "folder", None)
    if folder is not None:
        files = folder.glob("*.jsonl")
        count = sum(_num_lines(path) for path in files if path.stem not in ("qrels", "top_ranked"))
    else:
        statistics = task.metadata.descriptive_stats or {}
        samples = [dict(statistics.get(split, {})).get("num_samples", 0) for split in task.eval_splits]
        count = sum(number for number in samples if isinstance(number, int))
    return 2 * count if task.metadata.type in _PAIRS else count


def _num_lines(path: Path) -> int:
    return sum(1 for _ in numbered_lines(path))
