"""IR groups from dictionaries: English glosses of one sense, and Chinese idioms in use."""

import csv
import gzip
import io
import re
from collections.abc import Iterator

from data_prep.real.groups import Group

GLOSS_INSTRUCTION = "Find the phrases that mean the same as this one"
IDIOM_INSTRUCTION = "根据成语的释义，找到使用该成语的句子"
MIN_EXPLANATION = 6  # characters
_ENTRY = re.compile(r"(\S+) (\S+) \[[^\]]*\] /(.+)/")
_ASIDE = re.compile(r"\([^)]*\)")
_SOURCE = re.compile(r"★.*")  # the book that an example is from


def glosses(packed: bytes) -> Iterator[Group]:
    """Senses of CC-CEDICT with several glosses: `to split the bill; to go Dutch`.

    The query is a gloss of two words or more, the positives are the sense's other ones. Asides in brackets,
    and glosses with Chinese in them, are left out. The concept is the Chinese word.
    """
    for line in gzip.decompress(packed).decode("utf-8").splitlines():
        entry = None if line.startswith("#") else _ENTRY.match(line)
        for sense in entry[3].split("/") if entry else ():
            parts = [" ".join(part.split()) for part in _ASIDE.sub("", sense).split(";")]
            parts = [part for part in parts if part and part.isascii() and "[" not in part]
            query = next((part for part in parts if len(part.split()) > 1), None)
            others = tuple(part for part in parts if part != query)
            if entry and query and others:
                yield Group(entry[2], query, others)


def idioms(table: bytes) -> Iterator[Group]:
    """Idioms with an example: the query is the explanation, the positive the sentence that has the idiom.

    The concept is the explanation, as several idioms may share it.
    """
    for row in csv.DictReader(io.StringIO(table.decode("utf-8"))):
        explanation = row["explanation"].strip()
        example = _SOURCE.sub("", row["example"]).replace("～", row["word"]).strip()
        if "～" in row["example"] and len(explanation) >= MIN_EXPLANATION:
            yield Group(explanation, explanation, (example,))
