"""The rows of InfoNCE: which anchors meet which candidates, and which of those are negatives."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from codiemb.batch import EmbeddedBatch
from codiemb.losses.contrast import Block, NotNegatives
from codiemb.losses.masks import Documents, KnownPairs, Queries, number_texts, query_numbers


class Pairs(NamedTuple):
    """The P (query, positive) pairs of this rank, in the order of the positives in the batch."""

    owner_P: Int[Tensor, " P"]  # query on this rank, 0..B-1
    ordinal_P: Int[Tensor, " P"]  # the positive's place among its query's positives
    positive_PD: Float[Tensor, "P D"]
    hash_P: Int[Tensor, " P"]
    similarity_P: Float[Tensor, " P"]

    @staticmethod
    def of(batch: EmbeddedBatch, local: Documents) -> "Pairs":
        """The pairs of a batch; `local` are its documents."""
        index_P = batch.document_is_positive_N.nonzero().squeeze(1)
        owner_P, positive_PD = batch.document_owner_N[index_P].long(), batch.document_ND[index_P]
        similarity_P = (batch.query_BD[owner_P] * positive_PD).sum(dim=1)
        return Pairs(
            owner_P, local.ordinal_M[index_P], positive_PD, batch.document_hash_N[index_P], similarity_P
        )


class RowBuilder:
    """Builds the blocks of both directions; masks are made a chunk of rows at a time."""

    def __init__(
        self,
        batch: EmbeddedBatch,
        pairs: Pairs,
        documents: Documents,
        queries: Queries | None,
        *,
        aligned: bool,
        in_batch: bool,
        mask_false_negatives: bool,
    ) -> None:
        self.query_BD, self.number_B = batch.query_BD, query_numbers(batch)
        self.pairs, self.documents, self.queries = pairs, documents, queries
        self.aligned, self.in_batch, self.mask_false_negatives = aligned, in_batch, mask_false_negatives
        query_hash_Q = queries.hash_Q if queries is not None else batch.query_hash_B[:0]
        texts, num_texts = number_texts(
            batch.query_hash_B, pairs.hash_P, documents.hash_M, documents.owner_hash_M, query_hash_Q
        )
        self.query_text_B, self.text_P, self.text_M, owner_text_M, self.text_Q = texts
        positive_M = documents.is_positive_M
        self.known = KnownPairs(owner_text_M[positive_M], self.text_M[positive_M], num_texts)

    def forward_blocks(
        self, *, per_pair: bool, query_query: bool = False, document_document: bool = False
    ) -> list[Block]:
        """Queries against documents; one row a pair or, where its positives can share it, one a query."""
        num_queries, owner_P = len(self.number_B), self.pairs.owner_P
        query_R = owner_P if per_pair else torch.arange(num_queries, device=owner_P.device)
        anchor_RD, candidate_MD = self.query_BD[query_R], self.documents.embedding_MD

        def documents_of(row_c: Int[Tensor, " c"]) -> NotNegatives:
            ordinal_c = self.pairs.ordinal_P[row_c] if self.aligned else None
            return self._documents(query_R[row_c], ordinal_c)

        def queries_of(row_c: Int[Tensor, " c"]) -> NotNegatives:
            query_c = query_R[row_c]
            return self._queries(query_c, self.known, self.query_text_B[query_c])

        blocks = [Block(anchor_RD, candidate_MD, documents_of)]
        if query_query and self.queries is not None:
            blocks.append(Block(anchor_RD, self.queries.embedding_QD, queries_of))
        if document_document:
            blocks.append(Block(self.pairs.positive_PD, candidate_MD, documents_of))
        return blocks

    def backward_blocks(self) -> list[Block]:
        """Positives against the queries of all ranks; one row a pair."""
        assert self.queries is not None, "the direction from documents to queries needs gathered queries"

        def queries_of(row_c: Int[Tensor, " c"]) -> NotNegatives:
            return self._queries(self.pairs.owner_P[row_c], self.known.turned(), self.text_P[row_c])

        return [Block(self.pairs.positive_PD, self.queries.embedding_QD, queries_of)]

    def _documents(self, query_c: Int[Tensor, " c"], ordinal_c: Int[Tensor, " c"] | None) -> NotNegatives:
        documents = self.documents
        own_cM = self.number_B[query_c, None] == documents.owner_M
        excluded_cM = own_cM & documents.is_positive_M
        if ordinal_c is not None:
            # the clamp keeps hard negatives of a query without positives from a division by zero
            same_cM = documents.ordinal_M == ordinal_c[:, None] % documents.num_positives_M.clamp_min(1)
            excluded_cM |= documents.is_positive_M & ~same_cM
        if not self.in_batch:
            excluded_cM |= ~own_cM
        return self._mask(excluded_cM, self.known, self.query_text_B[query_c], self.text_M)

    def _queries(
        self, query_c: Int[Tensor, " c"], known: KnownPairs, text_c: Int[Tensor, " c"]
    ) -> NotNegatives:
        assert self.queries is not None
        excluded_cQ = self.number_B[query_c, None] == self.queries.number_Q
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
        return NotNegatives(excluded_cK, excluded_cK | known.lookup(text_c, text_K))
