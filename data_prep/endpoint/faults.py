"""What an endpoint's failure means: ask again, give this request up, or stop the run."""

import email.utils
import time
from collections.abc import Mapping, Set
from typing import Any

from codiemb.errors import UserError

# codes of 400 that speak of one request, and not of how all are made
_OF_THIS_REQUEST = (
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "string_above_max_length",
)
_TOO_LONG = ("context length", "maximum context", "too long")
_AGAIN = (408, 409, 425, 429)
_NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


class Stop(UserError):
    """The run ends here; what was answered stands in the ledger, and the same command goes on from there.

    Attributes:
        at_once: what is under way is not waited for.
    """

    def __init__(self, message: str, *, at_once: bool = False) -> None:
        super().__init__(message)
        self.at_once = at_once


class Transient(Exception):
    """It may work the next time.

    Attributes:
        wait: seconds, where the server has said how long.
        no_answer: nobody has answered at all.
    """

    def __init__(self, message: str, wait: float | None = None, *, no_answer: bool = False) -> None:
        super().__init__(message)
        self.wait, self.no_answer = wait, no_answer


class Refused(Exception):
    """The server answers this request never."""


def of_status(status: int, headers: Mapping[str, str], body: Any, where: str) -> Exception:  # noqa: ANN401  JSON
    """What an answer of another status than 200 means.

    Args:
        status: of HTTP.
        headers: of the answer.
        body: its JSON, or its text.
        where: the endpoint and the variable of its key, for the error.
    """
    codes, told = _error(body)
    said = f"HTTP {status} {' '.join(codes)}".strip() + (f": {told}" if told else "")
    if status in (401, 403):
        return Stop(f"{where} refuses the key: {said}", at_once=True)
    if status == 402 or not codes.isdisjoint(_NO_QUOTA):
        return Stop(
            f"{where}: the quota is used up: {said}. Once there is more, the same command goes on from here"
        )
    if status in _AGAIN or status >= 500:
        return Transient(said, _retry_after(headers))
    if status in (400, 413, 422) and _is_its_own(codes, told):
        return Refused(said)
    hint = "; is the address right, with its /v1, and the name of the model?" if status == 404 else ""
    return Stop(f"{where} does not take the request: {said}{hint}", at_once=True)


def _is_its_own(codes: Set[str], told: str) -> bool:
    return not codes.isdisjoint(_OF_THIS_REQUEST) or any(each in told.lower() for each in _TOO_LONG)


def _error(body: Any) -> tuple[Set[str], str]:  # noqa: ANN401  JSON
    """Codes and message of an error, in the forms that servers have for it."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return {}.keys(), str(error or "")[:300]
    told = error.get("message") or error.get("detail") or ""
    codes = {str(error[name]): None for name in ("code", "type") if error.get(name)}
    return codes.keys(), str(told)[:300]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from retry-after-ms, or Retry-After as seconds or as a date (RFC 9110, 10.2.3)."""
    try:
        if "retry-after-ms" in headers:
            return max(float(headers["retry-after-ms"]) / 1000, 0.0)
        value = headers.get("retry-after", "")
        return max(float(value), 0.0) if value else None
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
