"""Hard negatives: a query's nearest documents, found exactly, and which of them may be one.

Arrays in, arrays out, but for `pool.py`, which reads a source. Shape letters of this room: Q queries, N
documents, R records, D embedding width, K the best of a query, C candidates of all queries together, P pairs,
F pairs to judge; b and n are the rows and columns of a block.
"""
