"""The 31 tasks of mteb's MTEB(cmn, v1), in its order: types, splits, main scores; a test holds them to it.

mteb takes ten seconds to import, and builds all its 2,200 tasks before it gives the list of a benchmark.
"""

from typing import NamedTuple


class About(NamedTuple):
    """One of the 31 tasks."""

    type: str
    metric: str
    splits: tuple[str, ...]  # of the published table


def _about(kind: str, metric: str, split: str, *names: str) -> dict[str, About]:
    return {name: About(kind, metric, (split,)) for name in names}


CMTEB_TASKS = {
    **_about("Retrieval", "ndcg_at_10", "dev", "T2Retrieval", "MMarcoRetrieval", "DuRetrieval"),
    **_about("Retrieval", "ndcg_at_10", "dev", "CovidRetrieval", "CmedqaRetrieval", "EcomRetrieval"),
    **_about("Retrieval", "ndcg_at_10", "dev", "MedicalRetrieval", "VideoRetrieval"),
    **_about("Reranking", "map_at_1000", "dev", "T2Reranking", "MMarcoReranking"),
    **_about("Reranking", "map_at_1000", "test", "CMedQAv1-reranking", "CMedQAv2-reranking"),
    **_about("PairClassification", "max_accuracy", "validation", "Ocnli", "Cmnli"),
    **_about("Clustering", "v_measure", "test", "CLSClusteringS2S", "CLSClusteringP2P"),
    **_about("Clustering", "v_measure", "test", "ThuNewsClusteringS2S", "ThuNewsClusteringP2P"),
    **_about("STS", "cosine_spearman", "test", "LCQMC", "PAWSX"),
    **_about("STS", "cosine_spearman", "validation", "AFQMC"),
    **_about("STS", "cosine_spearman", "test", "QBQTC"),
    **_about("Classification", "accuracy", "validation", "TNews", "IFlyTek"),
    **_about("Classification", "accuracy", "test", "Waimai", "OnlineShopping", "JDReview"),
    # mteb 2.26 adds test: files of mteb 1.2 have no such scores, and the published rows are without
    **_about("Classification", "accuracy", "validation", "MultilingualSentiment"),
    **_about("STS", "cosine_spearman", "test", "ATEC", "BQ", "STSB"),
}
CMTEB = tuple(CMTEB_TASKS)
CMTEB_TYPES = {name: about.type for name, about in CMTEB_TASKS.items()}
