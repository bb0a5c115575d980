"""Whether the Hugging Face hub answers: one short request instead of a minute of retries."""

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

TIMEOUT_SECONDS = 5.0
NETWORK_LIBRARIES = ("httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp")


def hub_is_reachable() -> bool:
    """One short request. Without it, every dataset would cost 23 seconds of retries before it fails."""
    if constants.is_offline_mode():
        return False
    try:
        response = get_session().head(constants.ENDPOINT, timeout=TIMEOUT_SECONDS)
    except Exception as error:
        if is_unavailable(error):
            return False
        raise
    return response.status_code < 500  # a mirror may answer 404 here; a broken proxy answers 502


def is_unavailable(error: BaseException) -> bool:
    """Whether loading a hub dataset failed because it cannot be had, and not because something is broken."""
    # `datasets` turns some hub errors into a FileNotFoundError, and a cache in part into a ValueError
    cannot_be_had = (ConnectionError, TimeoutError, FileNotFoundError, HfHubHTTPError, OfflineModeIsEnabled)
    from_network = type(error).__module__.split(".")[0] in NETWORK_LIBRARIES
    return isinstance(error, cannot_be_had) or from_network or "Couldn't find cache for" in str(error)
