"""Train, evaluate and export general-purpose text-embedding models (after Youtu-Embedding / CoDiEmb)."""
