"""Which texts of the global batch may be a row's negatives: by ownership, by order, by equal text."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from codiemb.batch import EmbeddedBatch
from codiemb.distributed import gather_rows, rank

# A query's number over all ranks is rank * this + its number on the rank: unique whatever the ranks' B.
_QUERIES_PER_RANK = 1 << 32


class Documents(NamedTuple):
    """Candidate documents and what decides whose negatives they are. M documents (N where not gathered)."""

    embedding_MD: Float[Tensor, "M D"]
    owner_M: Int[Tensor, " M"]  # number, over all ranks, of the query that brought the document
    is_positive_M: Bool[Tensor, " M"]
    ordinal_M: Int[Tensor, " M"]  # a positive's place among its query's positives
    num_positives_M: Int[Tensor, " M"]  # of the document's query
    hash_M: Int[Tensor, " M"]
    owner_hash_M: Int[Tensor, " M"]

    @staticmethod
    def local(batch: EmbeddedBatch) -> "Documents":
        """This rank's documents."""
        groups = batch.groups
        owner_N, is_positive_N = groups.owner_N.long(), groups.is_positive_N
        num_positives_B = torch.zeros_like(groups.query_hash_B).index_add_(0, owner_N, is_positive_N.long())
        first_B = num_positives_B.cumsum(0) - num_positives_B
        return Documents(
            embedding_MD=batch.document_ND,
            owner_M=owner_N + rank() * _QUERIES_PER_RANK,
            is_positive_M=is_positive_N,
            ordinal_M=is_positive_N.long().cumsum(0) - 1 - first_B[owner_N],
            num_positives_M=num_positives_B[owner_N],
            hash_M=groups.document_hash_N,
            owner_hash_M=groups.query_hash_B[owner_N],
        )

    def gathered(self) -> "Documents":
        """All ranks' documents, in rank order: embeddings with gradient, all else in one integer gather."""
        embedding_MD = gather_rows(self.embedding_MD)
        columns = gather_rows(torch.stack([column.long() for column in self[1:]], dim=1)).unbind(1)
        return Documents(embedding_MD, columns[0], columns[1].bool(), *columns[2:])

    def positive_texts(self) -> Int[Tensor, "E 2"]:
        """The hashes of query and document of every positive here."""
        return torch.stack([self.owner_hash_M, self.hash_M], dim=1)[self.is_positive_M]


class Queries(NamedTuple):
    """Queries as anchors and candidates. Q of them (B where not gathered)."""

    embedding_QD: Float[Tensor, "Q D"]
    number_Q: Int[Tensor, " Q"]  # over all ranks
    hash_Q: Int[Tensor, " Q"]

    @staticmethod
    def local(batch: EmbeddedBatch) -> "Queries":
        """This rank's queries."""
        number_B = torch.arange(len(batch.groups.query_hash_B), device=batch.query_BD.device)
        return Queries(batch.query_BD, number_B + rank() * _QUERIES_PER_RANK, batch.groups.query_hash_B)

    def gathered(self) -> "Queries":
        """All ranks' queries, in rank order: embeddings with gradient, all else in one integer gather."""
        integers_Q2 = gather_rows(torch.stack([column.long() for column in self[1:]], dim=1))
        return Queries(gather_rows(self.embedding_QD), integers_Q2[:, 0], integers_Q2[:, 1])


def rows_of_lower_ranks(number_K: Int[Tensor, " K"]) -> Int[Tensor, ""]:
    """Where this rank's rows begin in a table, given the number over all ranks of each row's query."""
    return (number_K < rank() * _QUERIES_PER_RANK).sum()


class KnownPairs(NamedTuple):
    """The pairs of texts that the global batch itself calls positive; texts are dense numbers, not hashes.

    A pair (left, right) here is never a negative, nor is a text a negative of itself. Turned round, the same
    pairs serve the direction from documents to queries.
    """

    left_E: Int[Tensor, " E"]
    right_E: Int[Tensor, " E"]
    num_texts: int

    def turned(self) -> "KnownPairs":
        """The same pairs, right to left."""
        return KnownPairs(self.right_E, self.left_E, self.num_texts)

    def lookup(self, row_c: Int[Tensor, " c"], candidate_K: Int[Tensor, " K"]) -> Bool[Tensor, "c K"]:
        """Whether each row's text and each candidate's text are a known pair or the same text.

        Through a table of c x num_texts bools, so the cost of a row does not grow with its positives. Rows of
        the same text share a table row; pairs that concern no row land in the spare last one.
        """
        num_rows = len(row_c)
        table_row = torch.full((self.num_texts,), num_rows, device=row_c.device)
        table_row[row_c] = torch.arange(num_rows, device=row_c.device)
        table = torch.zeros((num_rows + 1, self.num_texts), dtype=torch.bool, device=row_c.device)
        table[table_row[self.left_E], self.right_E] = True
        table[table_row[row_c], row_c] = True
        known_tK = table.gather(1, candidate_K.expand(num_rows + 1, -1))
        del table  # at 64k candidates of 64k queries 64 MiB
        return known_tK[table_row[row_c]]


def number_texts(*hashes: Int[Tensor, " _"]) -> tuple[list[Int[Tensor, " _"]], int]:
    """Dense numbers for content hashes, equal texts sharing one; and how many texts there are."""
    texts, number = torch.unique(torch.cat(hashes), return_inverse=True)
    return list(number.split([len(part) for part in hashes])), len(texts)
