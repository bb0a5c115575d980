"""How many records each file of the corpus gets."""

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class EvalSizes:
    """Sizes of the evaluation sets of one split. Classification counts each of its two sides."""

    retrieval_queries: int = 400
    retrieval_documents: int = 2000
    reranking_queries: int = 300
    sts_pairs: int = 1000
    classification_pairs: int = 800
    classification: int = 600
    clustering: int = 800

    def divided(self, by: int) -> Self:
        """Return sizes that are smaller by a whole factor."""
        return type(self)(**{f.name: max(2, getattr(self, f.name) // by) for f in fields(self)})


@dataclass(frozen=True)
class Sizes:
    """Sizes of the training files and of the test sets; the dev sets are a third of the test sets."""

    ir: int = 12_000
    sts: int = 10_000
    test: EvalSizes = EvalSizes()

    @property
    def dev(self) -> EvalSizes:
        """Return the sizes of the dev sets."""
        return self.test.divided(3)
