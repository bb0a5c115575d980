"""The texts of the dev and test sets, to be kept out of everything that is trained on."""

from collections.abc import Iterable
from pathlib import Path

from codiemb.json_files import read_jsonl
from data_prep.docs.clean import normalise
from data_prep.docs.select import CopyFilter, mask
from data_prep.records import Record, texts_of

_TEXT_FIELDS = ("text", "sentence1", "sentence2")


class HeldOut:
    """Evaluation texts; compared by their words, whatever their case and punctuation."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(texts)
        self._exact = {normalise(text) for text in self.texts}
        self._masked = {mask(text) for text in self.texts}

    @staticmethod
    def of(folder: Path, tasks: str) -> "HeldOut":
        """All texts of `folder`/eval/*/TASKS, a glob pattern."""
        found: list[str] = []
        for file in sorted(folder.glob(f"eval/*/{tasks}/*.jsonl")):
            found += [row[field] for row in read_jsonl(file) for field in _TEXT_FIELDS if field in row]
        return HeldOut(found)

    def check(self, name: str, records: Iterable[Record]) -> None:
        """Refuse to go on where a training file holds one of these texts.

        Raises:
            ValueError: naming file and text.
        """
        for record in records:
            for text in texts_of(record):
                if normalise(text) in self._exact:
                    raise ValueError(f"A dev or test text would be in {name}: {text[:80]!r}")

    def has(self, text: str) -> bool:
        """Whether the text, a paragraph or a line of it is one of these, but for punctuation and case.

        The whole text is also compared with its identifiers masked: that makes it a copy.
        """
        parts = {text, *text.split("\n\n"), *text.split("\n")}
        return mask(text) in self._masked or not self._exact.isdisjoint(map(normalise, parts))

    def copies(self) -> CopyFilter:
        """A filter to which near copies of these are known."""
        known = CopyFilter()
        for text in self.texts:
            known.is_new(mask(text))
        return known
