"""From a folder back to its raw files, as the manifests say, as far as they are still there."""

from pathlib import Path

from data_prep.manifest import inputs_of, read_manifest


def lineage(folder: Path) -> str:
    """The steps that made a folder, the first one first."""
    return " → ".join(_steps(folder))


def _steps(folder: Path) -> list[str]:
    before = []
    for source in inputs_of(folder):
        before += (
            ["(a folder that has changed since, or is gone)"] if source.problem else _steps(source.folder)
        )
    return [*before, str(read_manifest(folder)["step"])]
