"""Files of JSON lines, and a small tokenizer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from codiemb.encoder.tokenization import PromptTemplate, TextTokenizer
from data_prep.tokenizer import train_tokenizer

WriteLines = Callable[..., Path]
SENTENCES = [
    "为通用领域句子生成表示",
    "重生鸿蒙类小说",
    "Given a question, retrieve passages that answer the question",
    "Retrieve semantically similar text",
    "how do I return a broken kettle?",
    "The bank opens at nine and closes at four.",
    "Instruction: \nQuery: ",
]


@pytest.fixture
def write_lines(tmp_path: Path) -> WriteLines:
    """Write a JSON-lines file; strings and bytes go in as they are, anything else as JSON."""

    def write(lines: Sequence[object], name: str = "train.jsonl", end: bytes = b"\n") -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(_raw(line) + end for line in lines))
        return path

    return write


def _raw(line: object) -> bytes:
    if isinstance(line, bytes):
        return line
    return (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)).encode()


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small byte-level BPE tokenizer, as the tiny models have."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(SENTENCES * 3, folder, vocab_size=400)
    return folder


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> TextTokenizer:
    hf = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    return TextTokenizer(hf, PromptTemplate("Instruction: {instruction} \nQuery: ", ""))
