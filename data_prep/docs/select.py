"""Which entries are kept: no copies, train/dev/test by module, no package dominating."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal
from zlib import crc32

from data_prep.docs.clean import normalise
from data_prep.docs.parse import Entry, stable_hash

Split = Literal["train", "dev", "test"]
DEV_PERCENT, TEST_PERCENT = 7, 22  # of the modules
CODE_PERCENT = 50  # of the entries that have code keep it as a second relevant document
SKETCH_SIZE = 16
MAX_SHARED = 0.5  # of a sketch; above it two texts are copies
MAX_POSTINGS = 300  # a shingle seen this often is an idiom and says nothing about copying

_IDENTIFIER = re.compile(r"\w*[\d_]\w*|\w+\.\w[\w.]*|[A-Za-z]+[a-z][A-Z]\w*|[A-Z]{2,}\w*")
_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def split_of(module: str) -> Split:
    """The side a module is on: from its dotted name only, whatever else is installed."""
    percent = stable_hash("split", module) % 100
    return "test" if percent < TEST_PERCENT else "dev" if percent < TEST_PERCENT + DEV_PERCENT else "train"


def mask(text: str, module: str = "", name: str = "") -> str:
    """Lower-case words with identifiers, numbers and the words of the module's and the class's name masked.

    "Foo model with a head" and "Bar model with a head" become equal: they are copies for our purpose.
    """
    own = {part.lower() for part in _NAME_PART.findall(module.rpartition(".")[2])}
    if name[:1].isupper():
        own |= {part.lower() for part in _NAME_PART.findall(name.split(".")[0])}
    words = re.findall(r"#|[a-z]+", _IDENTIFIER.sub(" # ", text).lower())
    masked = ["#" if word in own else word for word in words if word not in ("a", "an", "the")]
    return re.sub(r"#( #)+", "#", " ".join(masked))


class CopyFilter:
    """Remembers the texts it accepted; recognises a near copy by its bottom-k sketch of word triples."""

    def __init__(self) -> None:
        self._postings: defaultdict[int, list[int]] = defaultdict(list)
        self._count = 0

    def is_new(self, text: str) -> bool:
        """True, and the text is remembered, unless it shares most of its sketch with an earlier one."""
        words = text.split()
        triples = {crc32(" ".join(words[i : i + 3]).encode()) for i in range(max(1, len(words) - 2))}
        sketch = sorted(triples)[:SKETCH_SIZE]
        shared = Counter(i for key in sketch for i in self._postings[key])
        if shared and max(shared.values()) > MAX_SHARED * len(sketch):
            return False
        for key in sketch:
            if len(self._postings[key]) < MAX_POSTINGS:
                self._postings[key].append(self._count)
        self._count += 1
        return True


def unique_entries(entries: Iterable[Entry]) -> list[Entry]:
    """The entries without copies: the first of each kind stays; an entry with copied code loses the code."""
    names: set[tuple[str, str]] = set()
    masked_queries: set[str] = set()
    texts: set[str] = set()  # normalised queries, bodies and codes: none may occur twice, in any role
    bodies, codes = CopyFilter(), CopyFilter()
    kept = []
    for entry in entries:
        query, text = normalise(entry.query), normalise(entry.body)
        masked = mask(entry.query, entry.module, entry.name)
        seen = (entry.module, entry.name) in names or masked in masked_queries or {query, text} & texts
        if seen or not bodies.is_new(mask(entry.body, entry.module, entry.name)):
            continue
        names.add((entry.module, entry.name))
        masked_queries.add(masked)
        texts |= {query, text}
        code = normalise(entry.code)
        wanted = entry.code and stable_hash("code", entry.module, entry.name) % 100 < CODE_PERCENT
        if wanted and code not in texts and codes.is_new(code):
            texts.add(code)
            kept.append(entry)
        else:
            kept.append(replace(entry, code=""))
    return kept


def _level(sizes: Iterable[int], total: int) -> int:
    """The largest cap per package with at most total entries over all packages."""
    cap, left = 0, sorted(sizes)
    while left and total >= (left[0] - cap) * len(left):
        total -= (left[0] - cap) * len(left)
        cap = left.pop(0)
    return cap + total // len(left) if left else cap


def balanced(entries: Sequence[Entry], total: int, seed: int) -> list[Entry]:
    """At most total entries, in order: small packages whole, large ones cut by hash to one common size."""
    groups: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.package].append(entry)
    cap = _level((len(group) for group in groups.values()), total)
    chosen: list[Entry] = []
    for group in groups.values():
        chosen += sorted(group, key=lambda e: stable_hash(seed, e.module, e.name))[:cap]
    return sorted(chosen, key=lambda e: (e.module, e.name))
