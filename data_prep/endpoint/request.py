"""A request to a model, its key, and an answer: what is asked twice has one key and is sent once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Message = Mapping[str, str]  # role and content
BYTES_PER_TOKEN = 3  # a Chinese character is three bytes and about one token; an English token is four bytes


@dataclass(frozen=True)
class Request:
    """What a model is asked.

    Attributes:
        messages: of the chat, as the API has them.
        seed: sent along, and part of the key: another one is another request.
        about: what it is for; kept in the ledger for its reader, and no part of the key.
        schema: JSON schema of the answer, for servers that heed one.
    """

    messages: Sequence[Message]
    seed: int = 0
    about: str = ""
    schema: Mapping[str, Any] | None = None

    def body(self, model: str, sampling: Mapping[str, Any], response_format: str = "none") -> dict[str, Any]:
        """What is sent."""
        body = {"model": model, "messages": list(self.messages), "seed": self.seed, **sampling}
        if response_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif response_format == "json_schema" and self.schema is not None:
            schema = {"name": "answer", "schema": dict(self.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def num_tokens(self) -> int:
        """About how many tokens are asked; it is measured by the server once it has answered."""
        size = sum(len(message["content"].encode()) for message in self.messages)
        return -(-size // BYTES_PER_TOKEN) + 4 * len(self.messages)


def key_of(body: Mapping[str, Any]) -> str:
    """128 bits of everything that is sent; not of where it is sent to."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


NO_ANSWER = "no answer"  # how a problem begins that another run may mend


class Answer(NamedTuple):
    """What came of a request.

    Attributes:
        text: of the model; "" where there is none.
        problem: why there is none, or why the text is no whole answer; None if all is well.
        asked: tokens of the request.
        answered: tokens of the text.
    """

    text: str
    problem: str | None = None
    asked: int = 0
    answered: int = 0
