"""Vectors on disk: the same bits, each text once, never those of something else, never half of one."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from codiemb.evaluation import embedding_store
from codiemb.evaluation.embedding_cache import CachedEncoder, text_keys
from codiemb.evaluation.embedding_store import EmbeddingStore
from tests.support.evaluation_fakes import BagOfWords

ROOM = 1 << 20
TEXTS = ["an apple pie", "余额不足", "", "an apple pie", "river boat fish \ud800"]


class Words(BagOfWords):
    """Sees the prefix, as a model does."""

    def __init__(self, weights: str = "one") -> None:
        super().__init__()
        self.weights = weights
        self.asked = 0

    def prefix(self, instruction: str = "", side: str | None = None) -> str:
        return f"{side}: {instruction} "

    def settings(self) -> dict[str, str]:
        return {"name": "words", "weights": self.weights}

    def encode(self, texts, *, instruction="", side=None, progress=False) -> np.ndarray:
        self.asked += len(texts)
        prefix = self.prefix(instruction, side)
        return super().encode([(prefix + text).replace("\ud800", "?") + " x" for text in texts])


def cached(folder: Path, weights: str = "one", room: int = ROOM) -> tuple[CachedEncoder, Words]:
    words = Words(weights)
    return CachedEncoder(words, folder, room), words


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.shard"), key=lambda path: path.stat().st_mtime_ns)


def test_a_second_run_encodes_nothing_and_has_the_same_bits(tmp_path: Path) -> None:
    first, words = cached(tmp_path)
    plain = Words().encode(TEXTS, instruction="find", side="query")
    assert np.array_equal(first.encode(TEXTS, instruction="find", side="query"), plain)
    assert words.asked == 4, "a text that occurs twice is encoded once"
    second, words = cached(tmp_path)
    assert np.array_equal(second.encode(TEXTS[::-1], instruction="find", side="query"), plain[::-1])
    assert words.asked == 0
    assert second.encode([]).shape == (0, 64)


def test_other_prefixes_sides_and_weights_are_other_vectors(tmp_path: Path) -> None:
    encoder, words = cached(tmp_path)
    for number, (instruction, side) in enumerate([("find", "query"), ("find", "document"), ("", "query")], 1):
        encoder.encode(TEXTS[:2], instruction=instruction, side=side)
        assert words.asked == 2 * number
    other, words = cached(tmp_path, weights="others, under the same name")
    other.encode(TEXTS[:2], instruction="find", side="query")
    assert words.asked == 2
    assert text_keys("ab", ["c"]).tolist() != text_keys("a", ["bc"]).tolist()


def test_a_damaged_row_is_encoded_again_and_the_others_are_served(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(50)]
    plain = Words().encode(texts)
    cached(tmp_path)[0].encode(texts)
    (path,) = shards(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the last row
    path.write_bytes(data)
    encoder, words = cached(tmp_path)
    assert np.array_equal(encoder.encode(texts), plain)
    assert words.asked == 1


@pytest.mark.parametrize("left", [0, 7, 24, 1000, -1])
def test_a_file_that_is_cut_is_as_good_as_absent(tmp_path: Path, left: int) -> None:
    cached(tmp_path)[0].encode(TEXTS)
    (path,) = shards(tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    encoder, words = cached(tmp_path)
    assert np.array_equal(encoder.encode(TEXTS), Words().encode(TEXTS))
    assert words.asked == 4


def test_the_oldest_use_makes_room(tmp_path: Path) -> None:
    room = 3 * (24 + 10 * (24 + 4 * 64))
    encoder, words = cached(tmp_path, room=room)
    blocks = [[f"{block} {i}" for i in range(10)] for block in range(4)]
    for age, block in enumerate(blocks[:3]):
        encoder.encode(block)
        os.utime(shards(tmp_path)[-1], (age, age))
    encoder.encode(blocks[0])  # used now
    encoder.encode(blocks[3])
    assert sum(path.stat().st_size for path in shards(tmp_path)) <= room
    again, words = cached(tmp_path, room=room)
    again.encode([*blocks[0], *blocks[2], *blocks[3]])
    assert words.asked == 0, "only the second block had to go"
    cached(tmp_path, weights="two", room=1)
    assert not shards(tmp_path), "the room is that of all identities"


def test_what_a_killed_process_leaves_is_not_read_and_is_removed(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "one", ROOM)
    store.put(text_keys("", ["whole"]), np.ones((1, 4), np.float32))
    if (child := os.fork()) == 0:  # killed between the write and the rename
        embedding_store.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
        store.put(text_keys("", ["half"]), np.ones((1, 4), np.float32))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (partial,) = tmp_path.glob("one/*.partial")
    assert store.get(text_keys("", ["whole", "half"]))[0].tolist() == [True, False]
    assert partial.exists(), "another process may be writing it"
    os.utime(partial, (0, 0))
    EmbeddingStore(tmp_path, "two", ROOM)
    assert not partial.exists()


def test_two_stores_see_what_each_other_writes_and_removes(tmp_path: Path) -> None:
    one, two = (EmbeddingStore(tmp_path, "one", ROOM) for _ in range(2))
    keys, rows = text_keys("", ["a", "b"]), np.eye(2, dtype=np.float32)
    one.put(keys[:1], rows[:1])
    two.put(keys[1:], rows[1:])
    for store in (one, two):
        found, seen = store.get(keys)
        assert found.all()
        assert np.array_equal(seen, rows)
    for path in shards(tmp_path):
        path.unlink()
    assert np.array_equal(one.get(keys)[1], rows), "a mapped file stays readable"


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch, caplog) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("codiemb.evaluation.embedding_store.sync", full)
    encoder, _ = cached(tmp_path)
    assert np.array_equal(encoder.encode(TEXTS), Words().encode(TEXTS))
    assert "No space left" in caplog.text
    assert not list(tmp_path.glob("*/*"))
