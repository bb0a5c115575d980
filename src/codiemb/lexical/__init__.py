"""What BM25 needs, here and in data_prep: the words of a text, and the library without what it starts."""
