"""Clean the texts of a source, and drop those that say nothing; a dropped row stays, with its reason.

Every query, title and text is brought to one form: composed characters (NFC), \\n for every line end, no
control characters, one space for a run of blanks, nothing blank or of no width at the ends. Titles count as
the beginning of their document. Then the rules, in this order; the first that a row breaks is its reason:

  empty                nothing is left
  few_letters          fewer letters, ideographs and digits than --min-letters
  symbols              a lower share of them than --min-letter-share
  repeated_character   a run of one character fills more than --max-repeated of the text
  repeated_lines       lines that stand in the text before do
  boilerplate          documents: half of it is cookie banners, error pages and notices, as the expressions
                       in data_prep/cleaning/boilerplate.yaml say
  too_short, too_long  by characters, or by tokens of --tokenizer (special tokens not counted)
  language             not among --languages

`lang` is what the script says (zh, ja, ko, latin, cyrillic, arabic, ...); what fetch wrote there stays where
the text is in a script of that language. Equal documents are no matter of this step.
"""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from codiemb.data import content_hash
from codiemb.errors import UserError
from data_prep.cleaning import boilerplate
from data_prep.cleaning.characters import clean_text
from data_prep.cleaning.detect import by_lingua, by_script, lingua_detector
from data_prep.cleaning.rules import shape_problem
from data_prep.languages import is_wanted, unknown_languages
from data_prep.layout import CORPUS, QUERIES, document_text
from data_prep.options import option
from data_prep.step import Step, Work
from data_prep.token_counts import count_tokens, fingerprint

Side = Literal["query", "document"]
Limits = tuple[int | None, int | None]  # the shortest and the longest


@dataclass(frozen=True)
class Parameters:
    """What to drop; limits that are not given are none."""

    tokenizer: str = option("", "folder or hub name of the tokenizer that the token limits count with")
    min_query_tokens: int | None = option(None, "drop shorter queries")
    max_query_tokens: int | None = option(None, "drop longer queries")
    min_document_tokens: int | None = option(None, "drop shorter documents")
    max_document_tokens: int | None = option(None, "drop longer documents")
    min_query_characters: int | None = option(None, "drop shorter queries")
    max_query_characters: int | None = option(None, "drop longer queries")
    min_document_characters: int | None = option(None, "drop shorter documents")
    max_document_characters: int | None = option(None, "drop longer documents")
    min_letters: int = option(1, "drop texts with fewer letters, ideographs and digits")
    min_letter_share: float = option(
        0.3, "drop texts of which a lower share is letters, ideographs and digits"
    )
    max_repeated: float = option(
        0.5, "drop texts of which one character or earlier lines are more; 1 drops none"
    )
    boilerplate: str = option("builtin", "a YAML file of expressions in place of the builtin ones, or none")
    languages: list[str] = option(
        [], "drop texts in others: zh,en (by script alone, en is all Latin letters)"
    )
    language_detector: Literal["script", "lingua"] = option(
        "script", "script, or lingua: slower, 1.6 GiB, and tells en from fr"
    )
    keep_layout: bool = option(False, "leave blanks and empty lines inside a text as they are: of code")


def run(work: Work[Parameters]) -> Mapping[str, Any]:
    """Rewrite queries and corpus."""
    judge = _Judge(work.options, work.name)
    work.rewrite(QUERIES, judge.queries)
    work.rewrite(CORPUS, judge.documents)
    return {}


def _depends_on(options: Parameters) -> Mapping[str, Any]:
    _check(options)
    depends: dict[str, Any] = {"unicode": unicodedata.unidata_version}
    if options.boilerplate != "none":
        depends["boilerplate"] = hashlib.sha256(_patterns_file(options).read_bytes()).hexdigest()
    if _limits_in_tokens(options):
        depends["tokenizer"] = fingerprint(options.tokenizer)
    if options.language_detector == "lingua":
        depends["lingua"] = metadata.version("lingua-language-detector")
    return depends


def _check(options: Parameters) -> None:
    if (limits := _limits_in_tokens(options)) and not options.tokenizer:
        raise UserError(f"clean: {limits[0]} needs --tokenizer FOLDER: tokens are those of a tokenizer")
    if unknown := unknown_languages(options.languages):
        raise UserError(
            f"clean: languages={unknown[0]!r}: no such language; two letters (en, zh, ru), or a script "
            "(latin, cyrillic, arabic)"
        )
    for side in ("query", "document"):
        for unit in ("tokens", "characters"):
            low, high = _limits(options, side, unit)
            if low is not None and high is not None and low > high:
                raise UserError(f"clean: min_{side}_{unit}={low} is above max_{side}_{unit}={high}")
    if options.boilerplate != "none":
        boilerplate.read_patterns(_patterns_file(options))
    if options.language_detector == "lingua":
        lingua_detector()


def _limits_in_tokens(options: Parameters) -> list[str]:
    names = [f"{end}_{side}_tokens" for side in ("query", "document") for end in ("min", "max")]
    return [name for name in names if getattr(options, name) is not None]


def _limits(options: Parameters, side: str, unit: str) -> Limits:
    low, high = (getattr(options, f"{end}_{side}_{unit}") for end in ("min", "max"))
    return low, high


def _patterns_file(options: Parameters) -> Path:
    return boilerplate.BUILTIN if options.boilerplate == "builtin" else Path(options.boilerplate)


class _Judge:
    """The verdicts of one run; a block's follow from the block alone."""

    def __init__(self, options: Parameters, name: str) -> None:
        self._options = options
        self._name = name
        with_patterns = options.boilerplate != "none"
        self._pattern = boilerplate.read_patterns(_patterns_file(options)) if with_patterns else None
        self._languages = by_lingua if options.language_detector == "lingua" else by_script

    def queries(self, block: pa.Table) -> pa.Table:
        """A block of queries, cleaned and judged."""
        texts = self._clean(block["text"])
        return self._judged(block, {"text": texts}, texts, [self._shape(text) for text in texts], "query")

    def documents(self, block: pa.Table) -> pa.Table:
        """A block of documents, cleaned, hashed and judged."""
        texts, titles = self._clean(block["text"]), self._clean(block["title"])
        wholes = [document_text(title, text) for title, text in zip(titles, texts, strict=True)]
        reasons = [
            self._shape(whole) or self._boilerplate(text or whole)
            for whole, text in zip(wholes, texts, strict=True)
        ]
        columns: dict[str, Sequence[Any]] = {
            "text": texts,
            "title": [title or None for title in titles],
            "hash": [content_hash(whole) for whole in wholes],
        }
        return self._judged(block, columns, wholes, reasons, "document")

    def _clean(self, column: pa.ChunkedArray) -> list[str]:
        return [clean_text(text or "", keep_layout=self._options.keep_layout) for text in column.to_pylist()]

    def _shape(self, text: str) -> str | None:
        options = self._options
        return shape_problem(
            text,
            min_letters=options.min_letters,
            min_letter_share=options.min_letter_share,
            max_repeated=options.max_repeated,
        )

    def _boilerplate(self, text: str) -> str | None:
        found = self._pattern is not None and boilerplate.is_boilerplate(text, self._pattern)
        return "boilerplate" if found else None

    def _judged(
        self,
        block: pa.Table,
        columns: Mapping[str, Sequence[Any]],
        texts: Sequence[str],
        reasons: list[str | None],
        side: Side,
    ) -> pa.Table:
        languages = self._languages(texts, block["lang"].to_pylist())
        reasons = self._too_long_or_short(texts, reasons, side)
        wanted = self._options.languages
        if wanted:
            reasons = [
                reason or (None if is_wanted(language, wanted) else "language")
                for reason, language in zip(reasons, languages, strict=True)
            ]
        before = zip(block["dropped_by"].to_pylist(), block["reason"].to_pylist(), reasons, strict=True)
        verdicts = [
            (by, old) if by is not None else (self._name if new else None, new) for by, old, new in before
        ]
        return _replaced(
            block,
            {
                **columns,
                "lang": languages,
                "dropped_by": [by for by, _ in verdicts],
                "reason": [reason for _, reason in verdicts],
            },
        )

    def _too_long_or_short(
        self, texts: Sequence[str], reasons: list[str | None], side: Side
    ) -> list[str | None]:
        reasons = _outside(
            reasons, range(len(texts)), list(map(len, texts)), _limits(self._options, side, "characters")
        )
        limits = _limits(self._options, side, "tokens")
        if limits != (None, None):
            left = [index for index, reason in enumerate(reasons) if reason is None]
            counts = count_tokens(self._options.tokenizer, [texts[index] for index in left])
            reasons = _outside(reasons, left, counts, limits)
        return reasons


def _outside(
    reasons: list[str | None], rows: Sequence[int], lengths: Sequence[int], limits: Limits
) -> list[str | None]:
    low, high = limits
    judged = list(reasons)
    for row, length in zip(rows, lengths, strict=True):
        if judged[row] is None:
            if low is not None and length < low:
                judged[row] = "too_short"
            elif high is not None and length > high:
                judged[row] = "too_long"
    return judged


def _replaced(block: pa.Table, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    for name, values in columns.items():
        index = block.schema.get_field_index(name)
        block = block.set_column(index, name, pa.array(values, block.schema.field(name).type))
    return block


STEP = Step(Parameters, run, depends_on=_depends_on)
