"""Meanings and templates: similarity by construction, and a grammar that is as broad as promised."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.frames.grammar import GRAMMAR_DIR, GrammarError, load_grammar
from data_prep.frames.meaning import Meaning, similarity
from data_prep.frames.sampler import Sampler
from data_prep.frames.values import SPLITS, chinese_numeral, english_ordinal, english_words

FRAMES = load_grammar()


@st.composite
def meanings(draw, frame=None):
    frame = frame or draw(st.sampled_from(FRAMES))
    values = tuple(draw(st.sampled_from(slot_type.values)) for slot_type in frame.slots.values())
    return Meaning(frame, values, not frame.polar or draw(st.booleans()))


@st.composite
def pairs_of_one_frame(draw):
    """Two meanings of a frame in which each slot may agree."""
    frame = draw(st.sampled_from(FRAMES))
    a, b = draw(meanings(frame)), draw(meanings(frame))
    same = [draw(st.booleans()) for _ in a.values]
    values = tuple(x if keep else y for x, y, keep in zip(a.values, b.values, same, strict=True))
    return a, replace(b, values=values)


any_pair = st.one_of(pairs_of_one_frame(), st.tuples(meanings(), meanings()))


@given(any_pair)
def test_similarity_is_symmetric_and_bounded(pair):
    a, b = pair
    assert similarity(a, b) == similarity(b, a)
    assert 0.0 <= similarity(a, b) <= 1.0


@given(any_pair)
def test_similarity_is_one_exactly_for_the_same_meaning(pair):
    a, b = pair
    assert similarity(a, a) == 1.0
    assert (round(similarity(a, b), 4) == 1.0) == (a == b)


@given(pairs_of_one_frame(), st.data())
def test_each_further_difference_lowers_the_similarity(pair, data):
    a, b = pair
    slot = data.draw(st.integers(0, len(b.values) - 1))
    agreeing = replace(b, values=(*b.values[:slot], a.values[slot], *b.values[slot + 1 :]))
    if agreeing != b:
        assert similarity(a, b) < similarity(a, agreeing)


@given(pairs_of_one_frame())
def test_denial_costs_more_than_half(pair):
    a, b = pair
    if a.frame.polar:
        kept, denied = replace(b, affirmed=a.affirmed), replace(b, affirmed=not a.affirmed)
        assert similarity(a, denied) < 0.5 * similarity(a, kept)


@given(meanings(), meanings())
def test_other_frames_are_slightly_similar_within_a_domain_and_not_at_all_across(a, b):
    if a.frame.domain != b.frame.domain:
        assert similarity(a, b) == 0.0
    elif a.frame != b.frame:
        assert 0.1 <= similarity(a, b) <= 0.2


def test_numbers_are_scored_by_distance():
    frame = next(frame for frame in FRAMES if frame.name == "bank.transfer_arrival")
    payee, amount, date = (slot_type.values for slot_type in frame.slots.values())
    base = Meaning(frame, (payee[0], amount[100], date[100]))
    for slot, pool in ((1, amount), (2, date)):
        near, far = (
            replace(base, values=(*base.values[:slot], pool[i], *base.values[slot + 1 :])) for i in (103, 125)
        )
        assert similarity(base, far) < similarity(base, near) < 1.0


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.sampled_from(SPLITS))
def test_one_off_always_changes_the_meaning_but_never_the_frame(seed, split):
    sampler = Sampler(FRAMES, split, str(seed))
    meaning = sampler.meaning()
    other = sampler.one_off(meaning)
    assert other.frame == meaning.frame
    assert other != meaning
    assert len({id(v) for v in other.values}) == len(other.values)


def test_the_grammar_is_as_broad_as_promised():
    domains = Counter(frame.domain for frame in FRAMES)
    assert len(domains) >= 8
    assert min(domains.values()) >= 6
    for frame in FRAMES:
        for language in ("zh", "en"):
            assert sum(t.language == language and t.kind == "short" for t in frame.templates) >= 6
            assert sum(t.language == language and t.kind == "passage" for t in frame.templates) >= 2
    assert 0.3 < sum(frame.polar for frame in FRAMES) / len(FRAMES) < 0.7


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_every_template_says_every_slot_and_leaves_no_markup(frame):
    rng = random.Random(0)
    for template in frame.templates:
        rendered = set()
        for affirmed in (True, False) if frame.polar else (True,):
            for _ in range(4):
                surfaces = {
                    slot: rng.choice(rng.choice(slot_type.values).forms[template.language])
                    for slot, slot_type in frame.slots.items()
                }
                text = template.render(surfaces, affirmed, rng)
                assert not set("{}[]<>|") & set(text), f"{template.id}: {text}"
                assert "  " not in text
                assert not re.search(r" [,.?!;]", text) or template.language == "zh", text
                for surface in surfaces.values():
                    assert surface.lower() in text.lower(), f"{template.id}: {surface!r} not in {text!r}"
            rendered.add(template.render(surfaces, affirmed, random.Random(1)))
        assert len(rendered) == 1 + frame.polar, f"{template.id} says the same affirmed and denied"


def test_templates_of_one_frame_never_share_a_text_across_splits():
    for frame in FRAMES:
        surfaces = {slot: f"({slot})" for slot in frame.slots}
        said = {}
        for template in frame.templates:
            for seed in range(6):
                for affirmed in (True, False):
                    text = template.render(surfaces, affirmed, random.Random(seed))
                    assert said.setdefault(text, template.id) == template.id


@pytest.mark.parametrize(
    ("spell", "n", "expected"),
    [
        (english_words, 21, "twenty-one"),
        (english_words, 40, "forty"),
        (english_ordinal, 11, "11th"),
        (english_ordinal, 22, "22nd"),
        (chinese_numeral, 2, "两"),
        (chinese_numeral, 10, "十"),
        (chinese_numeral, 12, "十二"),
        (chinese_numeral, 40, "四十"),
    ],
)
def test_numbers_are_spelled_as_people_do(spell, n, expected):
    assert spell(n) == expected


VALID = """
slots:
  thing: {numbers: [1, 20, 1], zh: ["{n}"], en: ["{n}"]}
frames:
  buy:
    slots: {what: thing}
    polarity: true
    zh_short: |
      甲[买|不买]{what}
      乙[买|不买]{what}
      丙[买|不买]{what}
      丁[买|不买]{what}
    zh_passage: |
      甲先生[买|不买]{what}
      乙先生[买|不买]{what}
      丙先生[买|不买]{what}
      丁先生[买|不买]{what}
    en_short: |
      A [buys|skips] {what}
      B [buys|skips] {what}
      C [buys|skips] {what}
      D [buys|skips] {what}
    en_passage: |
      Mr A [buys|skips] {what}
      Mr B [buys|skips] {what}
      Mr C [buys|skips] {what}
      Mr D [buys|skips] {what}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("C [buys|skips] {what}", "C [buys|skips] it", "missing"),
        ("C [buys|skips] {what}", "C [buys|skips] {what} in {where}", "unknown placeholder"),
        ("C [buys|skips] {what}", "C <sees {what}|[buys|skips]>", "stray"),
        ("C [buys|skips] {what}", "C <sees|buys {what}> [it|not]", "missing from some alternative"),
        ("C [buys|skips] {what}", "C buys {what}", "polarity"),
        ("C [buys|skips] {what}", "C [buys] {what}", "exactly two options"),
        ("      D [buys|skips] {what}\n", "", "give 4 or more"),
        ("C [buys|skips] {what}", "B [buys|skips] {what}", "same template twice"),
        ("{what: thing}", "{what: object}", "unknown slot type"),
        ("polarity: true", "polarty: true", "may only have the keys"),
        ("polarity: true", "weights: {who: 2}", "weights"),
        ("[1, 20, 1]", "[1, 6, 1]", "10 values"),
    ],
)
def test_a_broken_grammar_names_file_and_frame(tmp_path, old, new, message):
    path = tmp_path / "shop.yaml"
    path.write_text(VALID, encoding="utf-8")
    assert [frame.name for frame in load_grammar(tmp_path)] == ["shop.buy"]
    assert old in VALID
    head, _, tail = VALID.partition("en_short") if "skips" in old else ("", "", VALID)
    broken = head + ("en_short" if head else "") + tail.replace(old, new, 1)
    path.write_text(broken, encoding="utf-8")
    with pytest.raises(GrammarError, match=message) as error:
        load_grammar(tmp_path)
    assert str(path) in str(error.value)
    assert "'buy'" in str(error.value)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ("thing: {values: '猫 = cat\n\n  狗 = cat'}", "belongs to both|same id"),
        ("thing: {values: '猫 cat'}", "not of the form"),
        ("thing: {words: 3}", "give one of values"),
    ],
)
def test_a_broken_slot_type_names_the_file(tmp_path, slots, message):
    (tmp_path / "shop.yaml").write_text(f"slots:\n  {slots}\nframes: {{}}\n", encoding="utf-8")
    with pytest.raises(GrammarError, match=message) as error:
        load_grammar(tmp_path)
    assert "shop.yaml: slot type 'thing'" in str(error.value)


def test_every_shipped_domain_file_loads():
    files = {path.stem for path in GRAMMAR_DIR.glob("*.yaml")} - {"_shared"}
    assert {frame.domain for frame in FRAMES} == files


def test_values_and_templates_are_split_without_overlap_or_loss():
    for frame in FRAMES:
        assert {t.split for t in frame.templates} == set(SPLITS)
        for slot_type in frame.slots.values():
            parts = [slot_type.values_of(split) for split in SPLITS]
            if not slot_type.closed:
                assert Counter(value for part in parts for value in part) == Counter(slot_type.values)
