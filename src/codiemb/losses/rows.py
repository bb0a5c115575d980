"""The rows of InfoNCE: which anchors meet which candidates, and which of those are negatives."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from codiemb.losses.contrast import Block, Direction, NotNegatives
from codiemb.losses.masks import Documents, KnownPairs, Queries, number_texts


class RowBuilder:
    """Builds both directions for the P pairs of this rank; masks are made a chunk of rows at a time.

    Args:
        documents: the table of candidates.
        queries: the table that holds this rank's queries, and, where they are candidates, all others.
        query_P: the place of each pair's query in `queries`, ascending.
        positive_P: the place of each pair's positive in `documents`.
        positive_text_E2: hashes of query and document of the positives of all ranks.
        aligned: of other queries' positives, only those of the same ordinal are negatives.
        in_batch: documents of other queries are negatives.
        mask_false_negatives: texts known as positives are not.
    """

    def __init__(
        self,
        documents: Documents,
        queries: Queries,
        query_P: Int[Tensor, " P"],
        positive_P: Int[Tensor, " P"],
        positive_text_E2: Int[Tensor, "E 2"],
        *,
        aligned: bool,
        in_batch: bool,
        mask_false_negatives: bool,
    ) -> None:
        self.documents, self.queries = documents, queries
        self.query_P, self.positive_P = query_P, positive_P
        self.aligned, self.in_batch, self.mask_false_negatives = aligned, in_batch, mask_false_negatives
        texts, num_texts = number_texts(documents.hash_M, queries.hash_Q, *positive_text_E2.unbind(1))
        self.text_M, self.text_Q, left_E, right_E = texts
        self.known = KnownPairs(left_E, right_E, num_texts)

    def forward(
        self,
        *,
        per_pair: bool,
        query_query: bool = False,
        document_document: bool = False,
        document_query: bool = False,
        times_positive: int = 1,
    ) -> Direction:
        """Queries against documents; one row a pair or, where its positives can share it, one a query."""
        query_R, row_P = self.query_P, torch.arange(len(self.query_P), device=self.query_P.device)
        if not per_pair:
            query_R, row_P = self.query_P.unique_consecutive(return_inverse=True)

        def documents_of(rows: slice) -> NotNegatives:
            ordinal_c = self.documents.ordinal_M[self.positive_P[rows]] if self.aligned else None
            return self._documents(query_R[rows], ordinal_c)

        def queries_of(rows: slice) -> NotNegatives:
            query_c = query_R[rows]
            return self._queries(query_c, self.known, self.text_Q[query_c])

        blocks = [Block("query", query_R, "document", documents_of)]
        if query_query:
            blocks.append(Block("query", query_R, "query", queries_of))
        if document_document:
            blocks.append(Block("document", self.positive_P, "document", documents_of))
        if document_query:
            blocks.append(self._positives_and_queries())
        return Direction(blocks, row_P, times_positive)

    def backward(self) -> Direction:
        """Positives against the queries of all ranks; one row a pair."""
        row_P = torch.arange(len(self.query_P), device=self.query_P.device)
        return Direction([self._positives_and_queries()], row_P)

    def _positives_and_queries(self) -> Block:
        def queries_of(rows: slice) -> NotNegatives:
            text_c = self.text_M[self.positive_P[rows]]
            return self._queries(self.query_P[rows], self.known.turned(), text_c)

        return Block("document", self.positive_P, "query", queries_of)

    def _documents(self, query_c: Int[Tensor, " c"], ordinal_c: Int[Tensor, " c"] | None) -> NotNegatives:
        documents = self.documents
        own_cM = self.queries.number_Q[query_c, None] == documents.owner_M
        excluded_cM = own_cM & documents.is_positive_M
        if ordinal_c is not None:
            # the clamp keeps hard negatives of a query without positives from a division by zero
            same_cM = documents.ordinal_M == ordinal_c[:, None] % documents.num_positives_M.clamp_min(1)
            excluded_cM |= documents.is_positive_M & ~same_cM
        if not self.in_batch:
            excluded_cM |= ~own_cM
        del own_cM  # c x M bools are 32 MiB at 64k documents
        return self._mask(excluded_cM, self.known, self.text_Q[query_c], self.text_M)

    def _queries(
        self, query_c: Int[Tensor, " c"], known: KnownPairs, text_c: Int[Tensor, " c"]
    ) -> NotNegatives:
        excluded_cQ = self.queries.number_Q[query_c, None] == self.queries.number_Q
        return self._mask(excluded_cQ, known, text_c, self.text_Q)

    def _mask(
        self,
        excluded_cK: Bool[Tensor, "c K"],
        known: KnownPairs,
        text_c: Int[Tensor, " c"],
        text_K: Int[Tensor, " K"],
    ) -> NotNegatives:
        if not self.mask_false_negatives:
            return NotNegatives(excluded_cK, excluded_cK)
        return NotNegatives(excluded_cK, known.lookup(text_c, text_K).logical_or_(excluded_cK))
