"""Whether what happens every so many optimizer steps is due at this one."""

import pytorch_lightning as pl


def is_due(step: int, every_n_steps: int | None) -> bool:
    """Whether `step` optimizer steps done are a multiple of `every_n_steps`; None and 0 mean never."""
    return bool(every_n_steps and step > 0 and step % every_n_steps == 0)


def is_logged(trainer: pl.Trainer, step: int) -> bool:
    """Whether the loggers have a line that ends with the last of `step` optimizer steps."""
    return is_due(step, trainer.log_every_n_steps)  # type: ignore[attr-defined]


class Windows:
    """Is it this task's turn? Once in every window of `trainer.log_every_n_steps`, at its first chance."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def state_dict(self) -> dict[str, int]:
        """Part of the callback's state: a resumed run looks no more often than an uninterrupted one."""
        return dict(self._last)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on in the window of the checkpoint."""
        self._last = dict(state_dict)

    def due(self, task: str, trainer: pl.Trainer) -> bool:
        """True the first time that the task asks in the window of the present optimizer step."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every == 0:  # off
            return False
        window = trainer.global_step // every
        if self._last.get(task) == window:
            return False
        self._last[task] = window
        return True
