"""A language model as a judge: what it is asked of a pair, and what its answer says."""

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from codiemb.errors import UserError
from codiemb.raw_files.mapping import read_yaml
from data_prep.endpoint.request import Answer, Request
from data_prep.endpoint.session import Ask, Session
from data_prep.progress import Progress
from data_prep.relabelling.verdicts import DROP, NEGATIVE, NO_VERDICT, POSITIVE, Said
from data_prep.texts import Texts

_BUILTIN = Path(__file__).with_name("prompts.yaml")
_SAYABLE = (NEGATIVE, POSITIVE, DROP)
_SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": list(_SAYABLE)}},
    "required": ["verdict"],
    "additionalProperties": False,
}
_OBJECT = re.compile(r"\{[^{}]*\}")


class Asked:
    """A judge behind an endpoint.

    Args:
        session: that is open.
        prompt: with {query} and {document}.
        queries: texts by row number.
        texts: of the documents.
    """

    def __init__(self, session: Session, prompt: str, queries: Mapping[int, str], texts: Texts) -> None:
        self._session, self._prompt, self._queries, self._texts = session, prompt, queries, texts

    def __call__(self, query_P: np.ndarray, document_P: np.ndarray) -> Said:
        """See `Judge`; an answer that is none of the three verdicts is no verdict."""
        pairs = list(zip(query_P.tolist(), document_P.tolist(), strict=True))
        progress = Progress("relabel: asking", len(pairs), "pairs", note=self._session.note)
        answers = self._session.map(pairs, self._ask, progress.advance)
        return Said([verdict_of(answer) for answer in answers], np.full(len(pairs), np.nan))

    async def _ask(self, ask: Ask, pair: tuple[int, int]) -> Answer:
        query, document = pair
        values = {"query": self._queries[query], "document": self._texts[document]}
        text = re.sub(r"\{(query|document)\}", partial(_value, values), self._prompt)
        return await ask(Request([{"role": "user", "content": text}], about="relabel", schema=_SCHEMA))


def _value(values: Mapping[str, str], found: re.Match[str]) -> str:
    return values[found[1]]


def verdict_of(answer: Answer) -> str:
    """What an answer says: by its last JSON object, behind whatever the model has thought aloud."""
    if answer.problem is not None:
        return NO_VERDICT
    for found in reversed(_OBJECT.findall(answer.text)):
        try:
            said = json.loads(found)["verdict"]
        except (ValueError, KeyError):
            continue
        return said if said in _SAYABLE else NO_VERDICT
    return NO_VERDICT


def read_prompt(name: str) -> str:
    """A builtin prompt by its language, or that of a YAML file.

    Raises:
        UserError: there is none, or it has no place for the query or the document.
    """
    builtin = read_yaml(_BUILTIN)
    if name in builtin:
        return str(builtin[name])
    if not Path(name).is_file():
        raise UserError(
            f"relabel: prompt={name!r}: no such file; there are {', '.join(builtin)}, or your own FILE.yaml"
        )
    prompt = str(read_yaml(Path(name)).get("prompt", ""))
    if missing := [each for each in ("{query}", "{document}") if each not in prompt]:
        raise UserError(f"{name}: prompt: has no {missing[0]}, where the text is put in")
    return prompt
