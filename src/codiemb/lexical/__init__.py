"""BM25 for evaluation and data_prep: how a text is split into words, and bm25s without JAX."""
