"""Builtin evaluation data small enough to know every answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from codiemb.evaluation import Evaluation, builtin_tasks, evaluate
from codiemb.evaluation.folder_tasks.tasks import LocalClustering
from tests.support.evaluation_fakes import BagOfWords, write_builtin_data


@pytest.fixture(scope="session")
def builtin_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    write_builtin_data(data)
    return data


@pytest.fixture(scope="session")
def evaluation(builtin_data: Path, small_and_single_threaded: None) -> Evaluation:
    return evaluate(BagOfWords(), builtin_tasks(builtin_data, "test"), {})


@pytest.fixture(autouse=True, scope="session")
def small_and_single_threaded() -> Iterator[None]:
    """2,048 draws of 16 texts show nothing that 128 do not, and threads only wait for so little."""
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.setattr(LocalClustering, "max_documents_per_cluster", 128)
        yield
