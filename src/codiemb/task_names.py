"""The names of the evaluation tasks, for checks that must not wait for mteb; a test holds them to it."""

from codiemb.cmteb_names import CMTEB

_ON_BOTH_SIDES = (
    "DocsRetrieval",
    "FramesRetrieval",
    "FramesReranking",
    "FramesSTS",
    "FramesPairClassification",
    "FramesClassification",
    "FramesClustering",
)
BUILTIN = (*_ON_BOTH_SIDES, "PapersRetrieval", "PapersClassification")  # the last two on dev alone
LOCAL = (*BUILTIN, *(f"Nano{name}" for name in _ON_BOTH_SIDES))  # whole and small
SPLITS = ("dev", "test")  # of the builtin data
BY_SET = {
    "builtin": LOCAL,
    "nano": LOCAL,
    "cmteb": CMTEB,
}  # task=mteb has all of mteb's: they are checked where it is imported
