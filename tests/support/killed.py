"""A step of data_prep that is killed while it gives a finished piece its name."""

import os
from pathlib import Path

import pytest

from data_prep import step


def killed_at(monkeypatch: pytest.MonkeyPatch, number: int, of: str) -> list[str]:
    """Interrupt the renaming of that piece, counted over paths that hold `of`; returns the names in order."""
    replace, made = os.replace, list[str]()

    def dies(old: Path, new: Path) -> None:
        if of in str(new):
            made.append(Path(new).name)
            if len(made) == number:
                raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(step.os, "replace", dies)
    return made
