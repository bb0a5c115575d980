"""The names of the 31 tasks of mteb's MTEB(cmn, v1), in its order; a test holds them to it.

mteb builds all its 2,200 tasks before it gives the list of a benchmark: 2.5 seconds.
"""

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
