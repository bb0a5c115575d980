"""The names of the evaluation tasks, for checks that must not wait for mteb; a test holds them to it."""

from codiemb.cmteb_names import CMTEB

BUILTIN = (
    "DocsRetrieval",
    "FramesRetrieval",
    "FramesReranking",
    "FramesSTS",
    "FramesPairClassification",
    "FramesClassification",
    "FramesClustering",
)
LOCAL = (*BUILTIN, *(f"Nano{name}" for name in BUILTIN))  # whole and small
BY_SET = {
    "builtin": LOCAL,
    "nano": LOCAL,
    "cmteb": CMTEB,
}  # task=mteb has all of mteb's: they are checked where it is imported
