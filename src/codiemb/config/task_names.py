"""The names of the evaluation tasks, for checks that must not wait for mteb; a test holds them to it."""

BUILTIN = (
    "DocsRetrieval",
    "FramesRetrieval",
    "FramesReranking",
    "FramesSTS",
    "FramesPairClassification",
    "FramesClassification",
    "FramesClustering",
)
CMTEB = (
    *("T2Retrieval", "MMarcoRetrieval", "DuRetrieval", "CovidRetrieval"),
    *("CmedqaRetrieval", "EcomRetrieval", "MedicalRetrieval", "VideoRetrieval"),
    *("T2Reranking", "MMarcoReranking", "CMedQAv1-reranking", "CMedQAv2-reranking"),
    *("Ocnli", "Cmnli"),
    *("CLSClusteringS2S", "CLSClusteringP2P", "ThuNewsClusteringS2S", "ThuNewsClusteringP2P"),
    *("LCQMC", "PAWSX", "AFQMC", "QBQTC"),
    *("TNews", "IFlyTek", "Waimai", "OnlineShopping", "JDReview", "MultilingualSentiment"),
    *("ATEC", "BQ", "STSB"),
)
LOCAL = (*BUILTIN, *(f"Nano{name}" for name in BUILTIN))  # whole and small
BY_SET = {
    "builtin": LOCAL,
    "nano": LOCAL,
    "cmteb": CMTEB,
}  # task=mteb has all of mteb's: they are checked where it is imported
