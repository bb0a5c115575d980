"""Requests to Tencent Cloud's GetEmbedding (lkeap, version 2024-05-22) by its own SDK, made with patience.

The SDK makes one call and knows nothing of patience: rate, back-off and what is worth another try are here.
"""

import logging
import os
import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from codiemb.encoder.spec import ApiSpec
from codiemb.errors import UserError

VERSION = "2024-05-22"
MAX_INPUTS = 7  # of one request
MAX_CHARACTERS = 2_000  # of one input
ID, SECRET = "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"
_LONGEST_WAIT = 60.0  # seconds
# Codes that another try may cure, or what they begin with: the service's, the SDK's, and the names of the
# exceptions of requests, which the SDK takes for codes while an answer is read.
_AGAIN = (
    *("RequestLimitExceeded", "InternalError", "FailedOperation.InternalError"),
    *("FailedOperation.EngineServerError", "FailedOperation.UnKnowError"),
    *("ClientNetworkError", "ServerNetworkError"),
    *("ConnectionError", "ConnectTimeout", "ReadTimeout", "ChunkedEncodingError", "JSONDecodeError"),
)
TextType = Literal["query", "document"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """Who asks. It has no repr, so that no message and no record can hold it."""

    secret_id: str = field(repr=False)
    secret_key: str = field(repr=False)

    @classmethod
    def from_environment(cls) -> "Key":
        """The key in TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY.

        Raises:
            UserError: naming what is not set.
        """
        values = {name: os.environ.get(name, "").strip() for name in (ID, SECRET)}
        if missing := [name for name, value in values.items() if not value]:
            raise UserError(
                f"model=youtu_api needs a key of Tencent Cloud in the environment: {' and '.join(missing)} "
                "not set; no config may hold it"
            )
        return cls(values[ID], values[SECRET])

    def masked(self, text: str) -> str:
        """A message without it."""
        return text.replace(self.secret_key, "***").replace(self.secret_id, "***")


class Lkeap:
    """GetEmbedding, at a steady rate and with patience.

    Args:
        spec: endpoint, model, rate, patience.
        key: who asks.
        sleep: waits so many seconds.

    Raises:
        UserError: the SDK is not installed, or refuses the settings.
    """

    def __init__(self, spec: ApiSpec, key: Key, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self.spec = spec
        self._key = key
        self._sleep = sleep
        self._random = random.Random()
        self._next = 0.0  # when the next request may start, in seconds of time.monotonic
        self._client, self._models, self._error = _sdk_client(spec, key)

    def embed(
        self, texts: Sequence[str], text_type: TextType, instruction: str, *, max_attempts: int | None = None
    ) -> Float[np.ndarray, "S D"]:
        """The vectors of at most 7 texts of at most 2,000 characters, as the service gives them.

        Raises:
            UserError: the service refuses, or fails `max_attempts` times.
        """
        attempts = max_attempts or self.spec.max_attempts
        for attempt in range(1, attempts + 1):
            self._keep_pace()
            try:
                return self._once(texts, text_type, instruction)
            except self._error as error:
                self._wait_or_refuse(error, attempt, attempts)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, texts: Sequence[str], text_type: TextType, instruction: str) -> np.ndarray:
        request = self._models.GetEmbeddingRequest()
        request.Model, request.Inputs, request.Instruction = self.spec.model, list(texts), instruction
        if self.spec.text_type:
            request.TextType = text_type
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)  # the SDK's utcfromtimestamp
            answer = self._client.GetEmbedding(request)
        rows = [entry.Embedding for entry in answer.Data or []]
        if len(rows) != len(texts) or len({len(row) for row in rows}) != 1:
            raise self._error("InternalError", f"{len(rows)} vectors for {len(texts)} texts")
        return np.asarray(rows, dtype=np.float32)

    def _wait_or_refuse(self, error: Any, attempt: int, attempts: int) -> None:  # noqa: ANN401  the SDK's
        code = str(error.code)
        said = self._key.masked(f"{code}: {error.message}")[:300]
        where = f"{self.spec.protocol}://{self.spec.endpoint}"
        if not code.startswith(_AGAIN):
            raise UserError(f"{where} refuses GetEmbedding ({said}); see model.api") from None
        if attempt == attempts:
            raise UserError(f"{where}: GetEmbedding failed {attempts} times, last with {said}") from None
        seconds = min(_LONGEST_WAIT, 2.0 ** (attempt - 1)) * self._random.uniform(0.5, 1.0)
        log.info("GetEmbedding: %s; attempt %d of %d in %.1f s", said, attempt + 1, attempts, seconds)
        self._sleep(seconds)

    def _keep_pace(self) -> None:
        now = time.monotonic()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + 1.0 / self.spec.requests_per_second


def _sdk_client(spec: ApiSpec, key: Key) -> tuple[Any, Any, type[Exception]]:
    """The SDK's client, its requests, and its exception."""
    try:
        lkeap = import_module("tencentcloud.lkeap.v20240522.lkeap_client")
        models = import_module("tencentcloud.lkeap.v20240522.models")
        credential = import_module("tencentcloud.common.credential")
        profiles = import_module("tencentcloud.common.profile.client_profile")
        http = import_module("tencentcloud.common.profile.http_profile")
        errors = import_module("tencentcloud.common.exception.tencent_cloud_sdk_exception")
    except ImportError as error:
        raise UserError(
            "model=youtu_api needs Tencent Cloud's SDK: pip install tencentcloud-sdk-python-lkeap"
        ) from error
    # its debug lines hold the header with the key's id
    logging.getLogger("tencentcloud_sdk_common").setLevel(logging.WARNING)
    profile = profiles.ClientProfile(
        httpProfile=http.HttpProfile(
            protocol=spec.protocol, endpoint=spec.endpoint, reqTimeout=spec.timeout_seconds
        )
    )
    try:
        secret = credential.Credential(key.secret_id, key.secret_key)
        client = lkeap.LkeapClient(secret, spec.region, profile)
    except errors.TencentCloudSDKException as error:
        raise UserError(f"model.api: {key.masked(str(error.message))}") from None
    return client, models, errors.TencentCloudSDKException


def check_api(spec: ApiSpec) -> None:
    """Refuse impossible settings, and a missing key, before anything is written.

    Raises:
        UserError: naming the key.
    """
    for name in ("requests_per_second", "timeout_seconds", "max_attempts"):
        if getattr(spec, name) <= 0:
            raise UserError(f"model.api.{name}={getattr(spec, name)} must be above 0")
    if spec.protocol not in ("https", "http"):
        raise UserError(f"model.api.protocol={spec.protocol!r} is none of https, http")
    if "/" in spec.endpoint or not spec.endpoint:
        raise UserError(f"model.api.endpoint={spec.endpoint!r} must be a host, with a port if need be")
    Key.from_environment()
