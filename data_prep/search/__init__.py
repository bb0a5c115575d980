"""Search without an index: BM25, its fusion with embeddings, and embeddings kept on disk.

Exact top-k of embeddings is `codiemb.mining`'s, which training needs, too.

Arrays and texts in, candidates out: no step's folder, no framework. Shape letters of this room: Q queries, N
documents, D embedding width, K the best of a query, C candidates of all queries together, P pairs; b and n
are the rows and columns of a block.
"""

from codiemb.mining.candidates import Candidates
from codiemb.mining.scores import pair_scores, refuse_unfit
from codiemb.mining.top_k import Blocks, top_k, top_k_blocks

__all__ = ["Blocks", "Candidates", "pair_scores", "refuse_unfit", "top_k", "top_k_blocks"]
