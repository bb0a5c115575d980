"""How many records each file of the corpus gets."""

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class EvalSizes:
    """Sizes of the evaluation sets of one split. Classification counts each of its two sides.

    The defaults are the test side's: `make train` encodes all of it three times, in a minute each on two slow
    cores.
    """

    retrieval_queries: int = 200
    retrieval_documents: int = 1000
    reranking_queries: int = 150
    sts_pairs: int = 600
    classification_pairs: int = 500
    classification: int = 600
    clustering: int = 800

    def divided(self, by: int) -> Self:
        """Return sizes that are smaller by a whole factor."""
        return type(self)(**{f.name: max(2, getattr(self, f.name) // by) for f in fields(self)})


@dataclass(frozen=True)
class Sizes:
    """Sizes of the training files and of the evaluation sets."""

    ir: int = 12_000
    sts: int = 10_000
    dev: EvalSizes = EvalSizes(
        retrieval_queries=133,
        retrieval_documents=666,
        reranking_queries=100,
        sts_pairs=333,
        classification_pairs=266,
        classification=200,
        clustering=266,
    )
    test: EvalSizes = EvalSizes()

    @classmethod
    def small(cls, ir: int, sts: int, by: int) -> Self:
        """Return sizes for a trial: so many training records, and evaluation sets smaller by `by`."""
        return cls(ir, sts, cls.dev.divided(by), cls.test.divided(by))
