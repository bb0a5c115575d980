"""Shingles of a block of texts, against words and n-grams taken one text at a time."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shingles import MAX_CHARACTERS, of_words, shingles, words

ALONE = "฀-\u0effက-႟ក-\u17ff\u3040-ヿ㐀-䶿一-鿿豈-\ufaff\U00020000-\U000323af"
texts = st.lists(
    st.text(st.sampled_from("ab1.,-_ \nÉé金额はい กำ𠀀😀\ud800é\u0301ß\u3000２①"), max_size=30), max_size=6
)


def plain_words(text: str) -> list[str]:
    """Runs of letters, marks and digits; characters of scripts without spaces one by one."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    spaced = re.sub(f"([{ALONE}])", r" \1 ", normal)
    kept = [c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in spaced]
    return "".join(kept).split()


@settings(deadline=None, max_examples=200)
@given(texts, st.integers(1, 6))
def test_two_shingles_are_equal_where_their_words_are(texts, size):
    found = shingles(texts, size)
    expected = [
        tuple(plain_words(text)[i : i + size])
        for text in texts
        for i in range(len(plain_words(text)) - size + 1)
    ]
    assert len(found.values) == len(expected)
    assert found.counts.tolist() == [max(len(plain_words(text)) - size + 1, 0) for text in texts]
    number_of: dict[tuple[str, ...], int] = {}
    for words_of_it, number in zip(expected, found.values.tolist(), strict=True):
        assert number_of.setdefault(words_of_it, number) == number
    assert len(set(number_of.values())) == len(number_of)


@settings(deadline=None, max_examples=50)
@given(texts)
def test_the_places_of_words_are_those_in_the_text(texts):
    for text in texts:
        found = words(text)
        cut = [found.text[a:b] for a, b in zip(found.first.tolist(), found.last.tolist(), strict=True)]
        assert cut == plain_words(text)
        assert of_words(found.values, 2).tolist() == shingles([text], 2).values.tolist()


def test_a_text_has_the_same_shingles_in_any_block():
    long = ["word " * 60_000, "other words " * 30_000, "a b c d e", "x" * 300_000]
    together = shingles(long, 5)
    for number, text in enumerate(long):
        assert together.of(number).tolist() == shingles([text], 5).values.tolist()


@pytest.mark.parametrize(
    ("first", "second"),
    [("42.195 km, on 2024-05-01", "26 km on 2019-01-09"), ("a 1 b 2 c 3", "a 1 b 2 c 4")],
)
def test_numbers_count(first, second):
    one, two = (set(shingles([text], 5).values.tolist()) for text in (first, second))
    assert one != two


def test_no_more_than_a_million_characters_of_a_text_are_looked_at():
    assert len(shingles(["ab " * (MAX_CHARACTERS // 3 + 100)], 5).values) == -(-MAX_CHARACTERS // 3) - 4


def test_the_numbers_are_the_same_on_every_machine_and_in_every_version():
    """Signatures of several machines are put together; files of an earlier run are used again."""
    values = shingles(["The order was shipped today.", "余额不足怎么办"], 5).values.tolist()
    assert values == GOLDEN


GOLDEN = [5609041438794129924, 18137414502135655463, 15121590591835333339, 5525399757119625301]
