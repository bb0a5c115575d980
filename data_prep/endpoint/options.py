"""What an endpoint is told and held to: address, model, sampling, key, waits, rates, prices and caps."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from codiemb.errors import UserError
from data_prep.options import option

NO_KEY = "none"
_HERE = ("localhost", "127.0.0.1", "::1")
_POSITIVE = ("max_answer_tokens", "timeout_seconds", "concurrency", "requests_per_minute",
             "tokens_per_minute", "max_cost", "max_total_tokens", "max_attempts",
             "longest_wait_seconds")  # fmt: skip


@dataclass(frozen=True)
class EndpointOptions:
    """Options of every step that asks a model; a step's own parameters are a subclass."""

    endpoint: str = option("", "address of an OpenAI-compatible server, with its /v1")
    model: str = option("", "the name that the server knows it by")
    key_variable: str = option(
        "OPENAI_API_KEY",
        "the environment variable that holds the key (its name, never the key); none: no key",
    )
    temperature: float | None = option(0.7, "of sampling; null leaves it to the server")
    top_p: float | None = option(None, "of sampling (the server's)")
    max_answer_tokens: int | None = option(1024, "an answer is cut here; null sends no limit")
    response_format: Literal["none", "json_object", "json_schema"] = option(
        "none", "what is asked of the server besides; answers are checked here in any case"
    )
    extra_body: str = option(
        "", 'JSON that is sent along: {"chat_template_kwargs": {"enable_thinking": false}}'
    )
    concurrency: int = option(16, "requests under way at a time")
    requests_per_minute: float | None = option(None, "no more than these")
    tokens_per_minute: float | None = option(None, "no more than these, asked and answered, by an estimate")
    timeout_seconds: float = option(300.0, "an answer that takes longer is asked for again")
    max_attempts: int = option(6, "of one request, before --on-failure")
    first_wait_seconds: float = option(1.0, "before the second attempt; doubled for each one more")
    longest_wait_seconds: float = option(120.0, "a server that says to wait longer than this stops the run")
    on_failure: Literal["stop", "reject"] = option(
        "stop", "a request that fails all attempts: stop, or reject it if others are answered meanwhile"
    )
    price_input: float = option(0.0, "of a million tokens asked")
    price_output: float = option(0.0, "of a million tokens answered")
    max_cost: float | None = option(None, "stop before all requests of the ledger have cost more than this")
    max_total_tokens: int | None = option(None, "stop before they have taken more tokens than these")
    ledger: str = option(
        "", "the file that keeps every answer (default: OUT.ledger/MODEL.jsonl, beside --out)"
    )

    def sampling(self) -> dict[str, Any]:
        """What is sent beside model and messages, and is part of a request's key."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_answer_tokens}
        return {key: value for key, value in given.items() if value is not None} | self._extra()

    def _extra(self) -> dict[str, Any]:
        try:
            extra = json.loads(self.extra_body or "{}")
        except ValueError as error:
            raise UserError(f"extra_body={self.extra_body!r} is not JSON: {error}") from error
        if not isinstance(extra, dict):
            raise UserError(f"extra_body={self.extra_body!r} must be a JSON object")
        return extra

    def check(self) -> None:
        """Refuse what cannot work, before any request.

        Raises:
            UserError: naming the option.
        """
        _check_address(self.endpoint)
        if not self.model:
            raise UserError("model: give the name of the model: --model NAME")
        if not re.fullmatch(r"[A-Za-z_]\w*", self.key_variable):  # not repeated: it may be the key itself
            raise UserError("key_variable: must be the NAME of an environment variable that holds the key")
        for name in _POSITIVE:
            if (value := getattr(self, name)) is not None and value <= 0:
                raise UserError(f"{name}={value} must be above 0")
        for name in ("price_input", "price_output", "first_wait_seconds"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)} must not be below 0")
        if self.max_cost is not None and not (self.price_input or self.price_output):
            raise UserError(
                f"max_cost={self.max_cost} needs prices, of a million tokens: --price-input and "
                "--price-output (or cap tokens: --max-total-tokens)"
            )
        self._extra()

    def key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The key, or None where none is needed.

        Raises:
            UserError: the variable is not set, and the server is not on this machine.
        """
        if self.key_variable == NO_KEY:
            return None
        found = environment.get(self.key_variable, "").strip()
        if found and not (found.isascii() and found.isprintable() and " " not in found):
            raise UserError(
                f"{self.key_variable}: its value is no key: a blank or a special character is in it"
            )
        here = urlsplit(self.endpoint).hostname in _HERE and self.key_variable == "OPENAI_API_KEY"
        if not found and not here:
            raise UserError(
                f"{self.key_variable}: this environment variable is not set; it holds the key of "
                f"{self.endpoint} (another: --key-variable NAME; no key is needed: --key-variable {NO_KEY})"
            )
        return found or None


def _check_address(address: str) -> None:
    if not address:
        raise UserError("endpoint: give the address of the server: --endpoint http://localhost:8000/v1")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"endpoint={address!r}: no address with http:// or https:// and a host; http://HOST:8000/v1"
        )
    if parts.username or parts.password or parts.query:  # not repeated: a key may be in it
        raise UserError(
            "endpoint: an address with a user, a password or a query; the key belongs into the environment "
            "variable that --key-variable names, for the address is written down"
        )
