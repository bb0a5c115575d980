"""What is read in mteb's source code without importing it holds at least what mteb has."""

from typing import get_args

import pytest
from mteb.abstasks.task_metadata import TaskType
from mteb.get_tasks import _TASK_RENAMES, _TASKS_REGISTRY

from codiemb import mteb_source
from codiemb.config.task_check import check_mteb_names
from codiemb.errors import UserError


def test_no_task_and_no_type_of_mteb_is_taken_for_unknown() -> None:
    theirs = {name for name, task in _TASKS_REGISTRY.items() if isinstance(task, type)}  # ours are functions
    assert theirs | _TASK_RENAMES.keys() <= mteb_source.task_names()
    assert len(mteb_source.task_names()) < 1.1 * len(theirs)  # or every typo would pass
    assert mteb_source.task_types() == set(get_args(TaskType))
    assert not {"c", "t2c", "Number of rows"} & mteb_source.task_names()


def test_a_task_that_mteb_does_not_have_is_refused_with_near_names() -> None:
    check_mteb_names(["STS17", "SciFact"])
    with pytest.raises(UserError, match=r"^task\.tasks: mteb has no STS71; did you mean STS17 or "):
        check_mteb_names(["SciFact", "STS71"])
    with pytest.raises(UserError, match=r"task=mteb needs task\.tasks=\[NAME"):
        check_mteb_names([])


def test_an_mteb_that_keeps_its_tasks_elsewhere_is_asked_itself(monkeypatch) -> None:
    monkeypatch.setattr(mteb_source, "_named", lambda folder: {})
    mteb_source.task_names.cache_clear()
    try:
        check_mteb_names(["NoSuchTask"])
    finally:
        mteb_source.task_names.cache_clear()


def test_literals_of_an_entry_are_read_and_nothing_else() -> None:
    entry = mteb_source.model_entry("tencent/Youtu-Embedding")
    assert entry["loader_kwargs"]["trust_remote_code"] is True  # type: ignore[index]
    assert entry["model_type"] == ["dense"]
    assert "loader" not in entry  # a class: its name says nothing
    assert mteb_source.model_entry("no/such-model") == {}
