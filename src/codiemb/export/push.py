"""An export on the hub: what must be there before a run begins, and the upload at its end."""

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from codiemb.errors import UserError
from codiemb.hub import hub_is_reachable, is_unavailable

KEY = "export.push_to_hub"
_WITHOUT = f"or train without {KEY} and upload later: hf upload"


def check_name(repo: str) -> None:
    """Refuse what cannot be a repository.

    Raises:
        UserError: it is not USER/NAME.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"{KEY}={repo}: {error}") from error
    if repo.count("/") != 1:
        raise UserError(f"{KEY}={repo} must be USER/NAME")


def check_hub(repo: str) -> None:
    """Refuse a run whose last step could only fail: no token, no hub, or a token that the hub refuses.

    Raises:
        UserError: with what to do.
    """
    if get_token() is None:
        raise UserError(
            f"{KEY}={repo} needs a token: set HF_TOKEN to one that may write (hub: Settings, Access Tokens), "
            f"{_WITHOUT} {repo} FOLDER"
        )
    if not hub_is_reachable():
        raise UserError(
            f"{KEY}={repo}: the hub is out of reach; mend the connection, {_WITHOUT} {repo} FOLDER"
        )
    try:
        HfApi().whoami()
    except Exception as error:
        if not is_unavailable(error):
            raise
        raise UserError(
            f"{KEY}={repo}: the hub refuses the token in HF_TOKEN ({_first_line(error)})"
        ) from error


def push(folder: Path, repo: str) -> str:
    """Upload an export; a repository that is not there is made, private. Returns its address.

    Raises:
        UserError: the hub refuses, or is out of reach. The folder is whole; the message says how to go on.
    """
    api = HfApi()
    try:
        url = api.create_repo(repo, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Export of CoDiEmb")
    except Exception as error:
        if not is_unavailable(error):
            raise
        raise UserError(
            f"{KEY}={repo}: the upload failed ({_first_line(error)}). The run is complete; go on with: "
            f"hf upload {repo} {folder}"
        ) from error
    return str(url)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
