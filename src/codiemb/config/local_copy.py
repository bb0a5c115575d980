"""`${folder_or:FOLDER,HUB_ID}` in conf/: a model's local copy where there is one."""

from pathlib import Path


def folder_or(folder: str, hub_id: str) -> str:
    """The folder if it is a model's (it has a config.json), else the hub id."""
    return folder if (Path(folder) / "config.json").is_file() else hub_id
