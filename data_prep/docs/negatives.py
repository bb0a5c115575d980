"""Hard negatives: documents of the same module, nearest to the query by BM25."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from data_prep.docs.parse import Entry

K1, B = 1.5, 0.75


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]{2,}", text.lower())


class Bm25:
    """BM25 over the documents of one module; a library's index per module costs more than the scoring."""

    def __init__(self, documents: Sequence[str]) -> None:
        self.documents = documents
        counts = [Counter(_words(text)) for text in documents]
        frequency = Counter(word for count in counts for word in count)
        mean = max(1.0, sum(c.total() for c in counts) / max(1, len(counts)))
        self._weights: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for i, count in enumerate(counts):
            norm = K1 * (1 - B + B * count.total() / mean)
            for word, n in count.items():
                idf = math.log(1 + (len(counts) - frequency[word] + 0.5) / (frequency[word] + 0.5))
                self._weights[word].append((i, idf * n * (K1 + 1) / (n + norm)))

    def rank(self, query: str) -> list[str]:
        """All documents, best first; ties in the given order."""
        scores = [0.0] * len(self.documents)
        for word in _words(query):
            for i, weight in self._weights.get(word, ()):
                scores[i] += weight
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        return [self.documents[i] for i in order]


class Siblings:
    """Ranks the other documents of an entry's module; if they are too few, of the packages around it."""

    def __init__(self, pool: Sequence[Entry]) -> None:
        self._groups: defaultdict[str, list[str]] = defaultdict(list)
        for entry in pool:
            for group in _around(entry.module):
                self._groups[group] += entry.documents
        self._indexes: dict[str, Bm25] = {}

    def hard_negatives(self, entry: Entry, limit: int) -> list[str]:
        """At most limit distinct documents, none of them one of the entry's own."""
        chosen: list[str] = []
        for group in _around(entry.module):
            if group not in self._indexes:
                self._indexes[group] = Bm25(self._groups[group])
            for text in self._indexes[group].rank(entry.query):
                if len(chosen) == limit:
                    return chosen
                if text not in entry.documents and text not in chosen:
                    chosen.append(text)
        return chosen


def _around(module: str) -> list[str]:
    """The module, then the packages that hold it, innermost first."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
