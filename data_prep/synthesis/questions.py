"""Ask a recipe's questions about a row, one after the other, and make rows of a source from the answers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from data_prep.endpoint.request import Request
from data_prep.endpoint.session import Ask
from data_prep.fetch.rows import Item
from data_prep.synthesis.answer import Rejected
from data_prep.synthesis.draws import drawn, number
from data_prep.synthesis.items import items_of
from data_prep.synthesis.prompt import ITEM, Prompt, Question, filled
from data_prep.synthesis.rows import Row

_SEEDS = 2**31  # some servers read 32 bits with a sign


class Reject(NamedTuple):
    """An answer that is of no use: of which row, to which question, why, and what it was."""

    label: str
    question: str
    reason: str
    text: str


class Outcome(NamedTuple):
    """What became of a row: items, or none if the last try was rejected, too."""

    label: str
    items: list[Item]
    rejected: list[Reject]


class Interview:
    """The questions of a recipe.

    Args:
        prompt: the recipe.
        name: its name, for origins and scorers.
        instruction: of the queries that are made, where the recipe has none.
        seed: of all that is drawn.
        tries: of each question, until an answer is of use.
    """

    def __init__(self, prompt: Prompt, name: str, instruction: str, *, seed: int, tries: int) -> None:
        self._prompt, self._name, self._seed, self._tries = prompt, name, seed, tries
        self._instruction = instruction
        self._forms = {question.name: question.form for question in prompt.ask}

    async def of_row(self, ask: Ask, row: Row) -> Outcome:
        """Ask all questions about a row."""
        rejected: list[Reject] = []
        values = {**row.values, **self._draws(row.key)}
        fields: dict[str, Any] = {}
        for index, question in enumerate(self._prompt.ask):
            is_last = index == len(self._prompt.ask) - 1
            found = await self._answer(ask, row, question, values, rejected, is_last=is_last)
            if found is None:
                return Outcome(row.label, [], rejected)
            fields = found
            values |= self._as_values(question, fields, row)
        return Outcome(row.label, self._items(row, fields, values), rejected)

    async def _answer(
        self,
        ask: Ask,
        row: Row,
        question: Question,
        values: Mapping[str, str],
        rejected: list[Reject],
        *,
        is_last: bool,
    ) -> dict[str, Any] | None:
        """The fields of the first answer that is of use, None if no try gave one."""
        if question.shared_by:
            key = f"{self._name} {question.name} {row.number // question.shared_by}"
            values = self._draws(key)
        else:
            key = row.key
        for attempt in range(self._tries):
            answer = await ask(self._request(question, key, values, attempt))
            try:
                if answer.problem is not None:
                    raise Rejected(answer.problem)
                fields = self._forms[question.name].read(answer.text, self._languages(question, values))
                if is_last:
                    self._items(row, fields, {**values, **self._as_values(question, fields, row)})
                return fields
            except Rejected as why:
                rejected.append(Reject(row.label, question.name, str(why), answer.text))
        return None

    def _request(self, question: Question, key: str, values: Mapping[str, str], attempt: int) -> Request:
        messages = [{"role": "user", "content": filled(question.prompt, values)}]
        if self._prompt.system_message:
            messages.insert(0, {"role": "system", "content": self._prompt.system_message.strip()})
        seed = number(self._seed, key, question.name, str(attempt)) % _SEEDS
        about = f"{self._name} {question.name} {key}"
        return Request(messages, seed, about, self._forms[question.name].schema())

    def _items(self, row: Row, fields: Mapping[str, Any], values: Mapping[str, str]) -> list[Item]:
        instruction = filled(self._prompt.instruction, values) or self._instruction
        return items_of(self._prompt, row, fields, instruction, self._name)

    def _draws(self, key: str) -> dict[str, str]:
        draws = {}
        for name in self._prompt.choices:
            choice = self._prompt.choice(name)
            draws[name] = "\n".join(drawn(self._seed, key, name, choice.of, choice.take))
        return draws

    def _as_values(self, question: Question, fields: Mapping[str, Any], row: Row) -> dict[str, str]:
        """An answer's fields as placeholders of what is asked later."""
        values = {f"{question.name}.{name}": _said(value) for name, value in fields.items()}
        if question.shared_by:
            (texts,) = fields.values()
            values[f"{question.name}.{ITEM}"] = texts[row.number % question.shared_by % len(texts)]
        return values

    def _languages(self, question: Question, values: Mapping[str, str]) -> dict[str, str]:
        """The code of the language that each field must be in, where there is one."""
        codes = {}
        for name, asked in question.answer.items():
            if asked.language.startswith("$"):
                codes[name] = self._prompt.languages[values[asked.language[1:]]]
            elif asked.language:
                codes[name] = asked.language
        return codes


def _said(value: Any) -> str:  # noqa: ANN401  a field of an answer
    if isinstance(value, list):
        return "\n".join(str(getattr(each, "text", each)) for each in value)
    return str(value or "")
