"""From a folder back to its raw files, as the manifests say, as far as they are still there."""

from pathlib import Path

from data_prep.manifest import MANIFEST, hash_file, read_manifest


def lineage(folder: Path) -> str:
    """The steps that made a folder, the first one first."""
    return " → ".join(_steps(folder))


def _steps(folder: Path) -> list[str]:
    manifest = read_manifest(folder)
    inputs = manifest.get("inputs", [])
    before = []
    for entry in inputs:
        source = folder / entry["folder"]
        if (source / MANIFEST).is_file() and hash_file(source / MANIFEST) == entry["manifest"]:
            before += _steps(source)
        else:
            before.append("(a folder that has changed since, or is gone)")
    return [*before, str(manifest["step"])]
