"""Texts that a language model writes: from a prompt file and a row to queries, documents and judgements."""
