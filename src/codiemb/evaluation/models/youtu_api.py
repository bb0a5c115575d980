"""The hosted model as an encoder: requests of seven texts, in the order given, none longer than it takes."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from codiemb.evaluation.models.lkeap import MAX_CHARACTERS, MAX_INPUTS, VERSION, Lkeap, TextType
from codiemb.text_encoder import Side

log = logging.getLogger(__name__)
_TOLD = 200  # requests a line of the log: an hour's work says where it is
Prompt = Callable[[str, Side | None], str]  # of an instruction and a side


class YoutuApi:
    """A TextEncoder that asks GetEmbedding.

    The prompt of a text is sent as `Instruction`; where it stands in what the model reads is the service's
    business. A text with a prompt is a query to it, for it takes instructions with queries only.

    Args:
        client: makes the requests.
        prompt: the template of the config.
        template: what is recorded of it.

    Attributes:
        num_cut: texts that were longer than 2,000 characters so far, and were cut.
    """

    def __init__(self, client: Lkeap, prompt: Prompt, template: dict[str, str]) -> None:
        self.client = client
        self.num_cut = 0
        self._prompt = prompt
        self._template = template

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: Side | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Embed S texts as an (S, D) float32 array, rows of length 1, in the order given.

        Raises:
            UserError: the service refuses, or fails again and again.
        """
        prompt, text_type = self._prompt(instruction, side), self._text_type(instruction, side)
        self._count_long(texts)
        parts = []
        with tqdm(total=len(texts), unit="text", disable=not progress, leave=False) as bar:
            for start in range(0, len(texts), MAX_INPUTS):
                inputs = [text[:MAX_CHARACTERS] for text in texts[start : start + MAX_INPUTS]]
                parts.append(self.client.embed(inputs, text_type, prompt))
                bar.update(len(inputs))
                if len(parts) % _TOLD == 0:
                    log.info("GetEmbedding: %d of %d texts", len(parts) * MAX_INPUTS, len(texts))
        rows_SD = np.concatenate(parts)
        return rows_SD / np.maximum(np.linalg.norm(rows_SD, axis=1, keepdims=True), 1e-12)

    def prefix(self, instruction: str = "", side: Side | None = None) -> str:
        """What is sent beside a text: where it stands in what the model reads, only the service knows."""
        sent = f"Instruction={self._prompt(instruction, side)!r}"
        if not self.client.spec.text_type:
            return sent
        return f"TextType={self._text_type(instruction, side)}, {sent}"

    def settings(self) -> dict[str, Any]:
        """What an embedding depends on, as far as it can be told from here."""
        spec = self.client.spec
        return {
            "loader": "youtu_api",
            "service": f"GetEmbedding {VERSION}",
            "model": spec.model,
            "endpoint": spec.endpoint,
            "region": spec.region,
            "text_type": spec.text_type,
            "template": self._template,
            "max_characters": MAX_CHARACTERS,
        }

    def check(self) -> int:
        """One request, with a second try: a wrong key or endpoint is told before any task; the width D.

        Raises:
            UserError: there is no answer.
        """
        return self.client.embed(["Where is my order?"], "document", "", max_attempts=2).shape[1]

    def _text_type(self, instruction: str, side: Side | None) -> TextType:
        return "query" if side == "query" or self._prompt(instruction, side) else "document"

    def _count_long(self, texts: Sequence[str]) -> None:
        if not (num_long := sum(len(text) > MAX_CHARACTERS for text in texts)):
            return
        self.num_cut += num_long
        log.warning(
            "%d of %d texts are longer than the %d characters that the service takes, and are cut",
            *(num_long, len(texts), MAX_CHARACTERS),
        )
