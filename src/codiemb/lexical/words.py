"""The words of a text as BM25 counts them, in Chinese and in languages with spaces."""

import re
import unicodedata

# a run of Han or kana (written without spaces), or a word of any other script; underscores separate
_RUNS = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)|([^\W_]+)")


def bm25_tokens(text: str) -> list[str]:
    """Lower-case words; Chinese as characters and pairs of neighbours. No stop words, no stemming."""
    tokens: list[str] = []
    # Han first gets spaces around it, so that "GPU显存" is one word and one run
    for han, word in _RUNS.findall(_separated(unicodedata.normalize("NFKC", text).lower())):
        tokens += [word] if word else [*han, *(han[i : i + 2] for i in range(len(han) - 1))]
    return tokens


def _separated(text: str) -> str:
    return re.sub(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)", r" \1 ", text)
