"""Records as the released trainer writes them, and changes of one."""

RELEASED_STS = {
    "task_type": "sts",
    "query": ["为通用领域句子生成表示", "", "重生鸿蒙类小说"],
    "positives": [["为通用领域句子生成表示", "", "重生鸿蒙类小说、"]],
    "negatives": [],
    "positive_scores": [1.0],
    "negative_scores": [],
}
RELEASED_IR = {
    "task_type": "ir",
    "query": ["Given a question, retrieve passages", "", "who opened the bank?"],
    "positives": [["", "", "The bank was opened by Ann."], ["", "", "Ann opened it."]],
    "negatives": [["", "", "The bank closed."]],
    "positive_scores": [],
    "negative_scores": [],
}


def sts(**changes):
    return RELEASED_STS | changes


def ir(**changes):
    return RELEASED_IR | changes


def without(record, *keys):
    return {key: value for key, value in record.items() if key not in keys}
