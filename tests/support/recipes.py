"""The published recipes of conf/experiment."""

RECIPES = (
    "paper/bge_large_zh",
    "paper/e5_large_instruct",
    "paper/minicpm",
    "youtu2b/pretrain",
    "youtu2b/align",
    "youtu2b/finetune",
    "gte",
    "nv_retriever",
    "matryoshka",
)
