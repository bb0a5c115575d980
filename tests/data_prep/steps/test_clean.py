"""Cleaned texts have one form, a verdict names the rule that was broken, and a killed run ends bit-equal."""

import hashlib
import sys
import unicodedata
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.data import content_hash
from codiemb.errors import UserError
from data_prep.cleaning import boilerplate
from data_prep.cleaning.characters import ZERO_WIDTH, clean_text
from data_prep.cleaning.rules import shape_problem
from data_prep.languages import is_wanted, language_of
from data_prep.manifest import MANIFEST, read_manifest
from data_prep.runner import run_step
from data_prep.steps.clean import STEP, Parameters
from data_prep.token_counts import count_tokens, load_tokenizer
from tests.support.killed import killed_at
from tests.support.sources import make_source

# What a text is made of here: letters, accents that compose, blanks, line ends, controls, zero widths
PIECES = st.sampled_from(
    [*"aZ9é中한の", "e\u0301", "\u0301", "\u200d", "\ufeff", "\u00a0", "\u3000", "\x00", "\x85"]
)
TEXTS = st.lists(
    PIECES | st.sampled_from([*" \t\n\r\v\f\x1c\u2028\u2029\u200b\u2000"]) | st.characters()
).map("".join)


def visible(text: str) -> str:
    """NFC without anything blank, of no width, or controlling: what cleaning must leave alone."""
    left = [c for c in text if not c.isspace() and unicodedata.category(c) != "Cc" and c not in ZERO_WIDTH]
    return unicodedata.normalize("NFC", "".join(left))


@settings(max_examples=300, deadline=None)
@given(TEXTS.filter(lambda text: not any(0xD800 <= ord(c) < 0xE000 for c in text)), st.booleans())
def test_cleaning_is_idempotent_and_neither_adds_nor_takes_away_text(text: str, keep_layout: bool) -> None:
    cleaned = clean_text(text, keep_layout=keep_layout)
    assert clean_text(cleaned, keep_layout=keep_layout) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not [c for c in cleaned if unicodedata.category(c) in ("Cc", "Zl", "Zp") and c not in "\n\t"]
    assert not cleaned[:1].isspace()
    assert not cleaned[-1:].isspace()
    assert not {cleaned[:1], cleaned[-1:]} & set(ZERO_WIDTH)
    assert visible(cleaned) == visible(text)
    if not keep_layout:
        assert "  " not in cleaned
        assert "\t" not in cleaned
        assert "\n\n\n" not in cleaned


def test_words_that_a_line_end_parts_stay_apart() -> None:
    assert clean_text("one\u2028two\r\nthree\x85four") == "one\ntwo\nthree\nfour"
    assert clean_text("\ufeffa\u200b") == "a"
    assert clean_text("e\x00\u0301") == "é"  # the accent is the letter's, once nothing stands between
    assert clean_text("👩\u200d💻") == "👩\u200d💻"  # one picture, not two
    assert clean_text("def f():\n    x\t= 1", keep_layout=True) == "def f():\n    x\t= 1"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("深度学习的优化方法", "zh"),
        ("iPhone 13 多少钱", "zh"),
        ("東京タワーの高さは", "ja"),
        ("山の手線", "ja"),
        ("鳩の休日是一首歌，收录于这张专辑之中", "zh"),  # one の in a name
        ("한국어 문장", "ko"),
        ("a sentence", "latin"),
        ("Пример текста", "cyrillic"),
        ("مثال على نص", "arabic"),
        ("नमस्ते दुनिया", "devanagari"),
        ("3.14 + 2", None),
        ("", None),
    ],
)
def test_the_script_says_the_language(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_by_script_alone_english_is_latin_letters_and_nothing_else() -> None:
    assert is_wanted("latin", ["en"])
    assert is_wanted(None, ["en"])
    assert not is_wanted("fr", ["en"])  # somebody knew better
    assert not is_wanted("zh", ["en", "ja"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("?!?", "few_letters"),
        ("a ---- ==== ####", "symbols"),
        ("नमस्ते", None),  # vowel signs are marks, not symbols
        ("a" + "." * 4 + " and so on", None),
        ("ha" + "a" * 40, "repeated_character"),
        ("哈" * 30, "repeated_character"),
        ("a title\n" + "=" * 7 + "\nand its text", None),
        ("buy now\n" * 3 + "buy now", "repeated_lines"),
        ("one\ntwo\none\nthree", None),
        ("42", None),
    ],
)
def test_the_shape_of_a_text(text: str, reason: str | None) -> None:
    assert shape_problem(text, min_letters=1, min_letter_share=0.3, max_repeated=0.5) == reason


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab "), st.integers(1, 40)), max_size=6),
    st.sampled_from([0.3, 0.5, 1.0]),
)
def test_a_run_is_found_wherever_it_lies(runs: list[tuple[str, int]], max_repeated: float) -> None:
    text = "x" + "".join(character * count for character, count in runs)
    longest = max(len(list(group)) for _, group in groupby(text))
    reason = shape_problem(text, min_letters=0, min_letter_share=0, max_repeated=max_repeated)
    assert (reason == "repeated_character") is (longest > max(10, int(max_repeated * len(text))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("This website uses cookies to improve your experience. Accept all cookies", True),
        ("Please enable JavaScript to view this page.", True),
        ("404 Not Found", True),
        ("Sorry, the page you requested could not be found.", True),
        ("© 2019 Example Inc. All rights reserved.", True),
        ("您访问的页面不存在。返回首页", True),
        ("请登录后查看更多内容！", True),
        ("未经授权，不得转载。", True),
        ("How to enable JavaScript in a browser: open its settings and look for scripts.", False),
        ("HTTP cookies were invented in 1994 to keep the state of a shop's basket.", False),
        ("404错误页面的设计原则：说明原因，给出出路，保持网站的风格一致。", False),
        ("深度学习是机器学习的分支。它以人工神经网络为架构。版权所有", False),
        ("All rights reserved. A short story of a fox.", False),  # 20 of 44 characters
        ("All rights reserved. Story of a fox.", True),
        ("The theory of copyright goes back to the Statute of Anne, 1710.", False),
    ],
)
def test_a_page_is_boilerplate_if_half_of_it_is(text: str, expected: bool) -> None:
    assert boilerplate.is_boilerplate(text, boilerplate.read_patterns(boilerplate.BUILTIN)) is expected


# The step

QUERIES = {"q1": "what  is\u00a0this ", "q2": "\ufeff", "q3": "这是什么", "q4": "404 not found nginx"}
DOCUMENTS = [
    {"id": "d1", "title": "Title\n", "text": "e\u0301te\u0301", "lang": "fr"},
    {"id": "d2", "title": None, "text": "Accept all cookies."},
    {"id": "d3", "title": None, "text": "一个文档", "lang": "en"},
    {"id": "d4", "title": "only a title", "text": " "},
    {"id": "d5", "title": None, "text": "kept away", "dropped_by": "filter", "reason": "score"},
    {"id": "d6", "title": None, "text": "日本語の文"},
]


def cleaned(tmp_path: Path, options: Parameters) -> dict[str, dict[str, dict]]:
    source = make_source(tmp_path / "in", QUERIES, DOCUMENTS, [("q1", "d1")])
    run_step("clean", [source], tmp_path / "out", options)
    return {
        name: {row["id"]: row for row in pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist()}
        for name in ("queries", "corpus")
    }


def test_rows_are_cleaned_hashed_and_marked_and_none_is_lost(tmp_path: Path) -> None:
    tables = cleaned(tmp_path, Parameters(languages=["en", "fr", "zh"]))
    queries, corpus = tables["queries"], tables["corpus"]
    assert list(queries) == list(QUERIES)
    assert list(corpus) == [row["id"] for row in DOCUMENTS]
    assert queries["q1"]["text"] == "what is this"
    assert {key: row["reason"] for key, row in queries.items() if row["dropped_by"]} == {"q2": "empty"}
    assert (corpus["d1"]["title"], corpus["d1"]["text"], corpus["d1"]["lang"]) == ("Title", "été", "fr")
    assert corpus["d1"]["hash"] == content_hash("Title été")
    assert corpus["d3"]["lang"] == "zh"  # whatever the recipe said
    assert {key: (row["dropped_by"], row["reason"]) for key, row in corpus.items()} == {
        "d1": (None, None),
        "d2": ("clean", "boilerplate"),
        "d3": (None, None),
        "d4": (None, None),  # its title is its text
        "d5": ("filter", "score"),  # an older verdict stays
        "d6": ("clean", "language"),
    }
    assert read_manifest(tmp_path / "out")["rows"]["corpus.parquet"] == {
        "in": 6,
        "out": 6,
        "kept": 3,
        "dropped": {"boilerplate": 1, "language": 1},
    }


def test_lengths_are_counted_in_tokens_of_the_named_tokenizer(tmp_path: Path, wordpiece: Path) -> None:
    tokenizer = load_tokenizer(str(wordpiece))
    texts = ["what is this", *[row["text"] for row in DOCUMENTS]]
    assert count_tokens(str(wordpiece), texts) == [len(tokenizer.tokenize(text)) for text in texts]
    limit = count_tokens(str(wordpiece), ["kept away"])[0]
    options = Parameters(tokenizer=str(wordpiece), max_document_tokens=limit, min_query_characters=5)
    tables = cleaned(tmp_path, options)
    expected = {"d1": "Title été", "d3": "一个文档", "d4": "only a title", "d6": "日本語の文"}
    for key, text in expected.items():
        too_long = len(tokenizer.tokenize(text)) > limit
        assert tables["corpus"][key]["reason"] == ("too_long" if too_long else None), key
    assert {row["reason"] for row in tables["corpus"].values()} > {"too_long", None}
    assert tables["queries"]["q3"]["reason"] == "too_short"
    assert read_manifest(tmp_path / "out")["depends_on"]["tokenizer"]


def test_a_killed_run_goes_on_and_ends_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {f"d{i}": f"  document {i}\u2028with é " for i in range(50)}
    source = make_source(tmp_path / "in", {"q": "a"}, texts, block_rows=10)
    run_step("clean", [source], tmp_path / "whole", Parameters())

    made = killed_at(monkeypatch, 4, of="parts")
    with pytest.raises(KeyboardInterrupt):
        run_step("clean", [source], tmp_path / "out", Parameters())
    assert not (tmp_path / "out").exists()
    run_step("clean", [source], tmp_path / "out", Parameters())
    assert made[4:] == [f"corpus-{i:06d}.parquet" for i in (2, 3, 4)]  # what was finished is not done again
    for name in ("queries.parquet", "corpus.parquet"):
        assert sha256(tmp_path / "out" / name) == sha256(tmp_path / "whole" / name)
    ours, theirs = (read_manifest(tmp_path / folder) for folder in ("out", "whole"))
    assert ours == theirs
    assert (tmp_path / "out" / MANIFEST).is_file()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_query_tokens": 5}, "max_query_tokens needs --tokenizer FOLDER"),
        ({"tokenizer": "no/such", "max_query_tokens": 5}, "no tokenizer at 'no/such'"),
        ({"languages": ["english"]}, "'english': no such language"),
        ({"min_query_characters": 9, "max_query_characters": 3}, "=9 is above max_query_characters=3"),
        ({"boilerplate": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ],
)
def test_a_mistake_in_the_options_is_one_clear_error(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        STEP.depends_on(Parameters(**options))


def test_an_expression_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("notices:\n  - fine\n  - 'a('\n")
    with pytest.raises(UserError, match=r"mine.yaml: notices\[1\]: 'a\(' is no regular expression"):
        STEP.depends_on(Parameters(boilerplate=str(file)))


def test_lingua_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(UserError, match="pip install lingua-language-detector"):
        STEP.depends_on(Parameters(language_detector="lingua"))
