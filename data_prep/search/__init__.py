"""Search without an index: exact top-k of embeddings, BM25, their fusion, and embeddings kept on disk.

Arrays and texts in, candidates out: no step's folder, no framework. Shape letters of this room: Q queries, N
documents, D embedding width, K the best of a query, C candidates of all queries together, P pairs; b and n
are the rows and columns of a block.
"""

from data_prep.search.candidates import Candidates
from data_prep.search.scores import pair_scores, refuse_unfit
from data_prep.search.top_k import Blocks, top_k, top_k_blocks

__all__ = ["Blocks", "Candidates", "pair_scores", "refuse_unfit", "top_k", "top_k_blocks"]
