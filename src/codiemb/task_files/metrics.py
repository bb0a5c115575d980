"""The names of mteb's scores by kind of task, so that a wrong one is told before anything is encoded."""

from collections.abc import Mapping
from difflib import get_close_matches

from codiemb.task_files.found import Kind

_AT = (1, 3, 5, 10, 20, 100, 1000)
_RANKED = tuple(
    f"{name}_at_{k}" for name in ("ndcg", "map", "recall", "precision", "mrr", "hit_rate") for k in _AT
)
_SIMILARITIES = ("similarity", "cosine", "manhattan", "euclidean", "dot", "max")
MAIN: Mapping[Kind, str] = {
    "retrieval": "ndcg_at_10",
    "reranking": "map_at_1000",
    "sts": "cosine_spearman",
    "pair_classification": "max_ap",
    "classification": "accuracy",
    "clustering": "v_measure",
}
SCORES: Mapping[Kind, tuple[str, ...]] = {
    "retrieval": _RANKED,
    "reranking": _RANKED,
    "sts": tuple(
        f"{prefix}{name}"
        for prefix in ("", "cosine_", "manhattan_", "euclidean_")
        for name in ("spearman", "pearson")
    ),
    "pair_classification": tuple(
        f"{prefix}_{name}"
        for prefix in _SIMILARITIES
        for name in ("ap", "accuracy", "f1", "precision", "recall")
    ),
    "classification": (
        "accuracy",
        "f1",
        "f1_weighted",
        "precision",
        "precision_weighted",
        "recall",
        "recall_weighted",
    ),
    "clustering": ("v_measure",),
}


def main_score(kind: Kind, name: str) -> str:
    """mteb's name of a score, that of the kind for "".

    Raises:
        ValueError: the kind has none of that name.
    """
    wanted = name.replace("@", "_at_") or MAIN[kind]
    if wanted not in SCORES[kind]:
        near = get_close_matches(wanted, SCORES[kind], n=3, cutoff=0.5) or SCORES[kind][:5]
        raise ValueError(f"metric: {kind} has no {name!r}; it has {', '.join(near)}, ...")
    return wanted
