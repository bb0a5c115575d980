"""An answer is of use, or it is rejected with a reason; nothing else can come of any text."""

import contextlib
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.synthesis.answer import Asked, Form, Rejected

FORM = Form({
    "query": Asked(at_least=3, at_most=20),
    "kind": Asked(kind="one_of", of=["a", "b"], optional=True),
    "others": Asked(kind="texts", at_least=1, at_most=2, optional=True),
    "graded": Asked(kind="graded", lowest=0, highest=5, at_least=1, at_most=3, optional=True),
})  # fmt: skip
GOOD = {"query": "what is it"}


@pytest.mark.parametrize(
    "text",
    [
        '{"query": "what is it"}',
        'Of course!\n```json\n{"query": " what is it\\n"}\n```\nAnything else?',
        '<think>{"query": "no, not that"}</think>\n{"query": "what is it", "why": "not asked for"}',
        'They say {this} and {that}: {"query": "what is it"} {"query": "what else"}',
        '```\n{"query": "what is it", "kind": null}\n```',
    ],
)
def test_the_object_is_found_in_what_models_write_around_it(text):
    found = FORM.read(text, {})
    assert {name: value for name, value in found.items() if value is not None} == GOOD


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no JSON"),
        ('{"query": "what is', "no JSON"),
        ('["what is it"]', "no JSON"),
        ({"question": "what is it"}, "schema: query: Field required"),
        ({"query": ["what is it"]}, "schema: query"),
        ({"query": "  a  "}, "schema: query: String should have at least 3"),
        ({"query": "x" * 21}, "schema: query: String should have at most 20"),
        ({**GOOD, "kind": "c"}, "schema: kind"),
        ({**GOOD, "others": []}, "schema: others"),
        ({**GOOD, "others": ["a", " "]}, "schema: others.1"),
        ({**GOOD, "graded": [{"text": "x", "grade": 6}]}, "schema: graded.0.grade"),
        ({**GOOD, "graded": [{"text": "x"}]}, "schema: graded.0.grade"),
        ('{"query": "what is \\ud800 it"}', "schema: query"),
        ('{"query": "what is it", "graded": [{"text": "x", "grade": NaN}]}', "schema: graded.0.grade"),
    ],
)
def test_what_is_not_as_asked_is_rejected_with_its_place(answer, reason):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    with pytest.raises(Rejected) as caught:
        FORM.read(text, {})
    assert str(caught.value).startswith(reason)


def test_a_language_is_told_by_the_script():
    assert FORM.read('{"query": "这是什么"}', {"query": "zh"})["query"] == "这是什么"
    with pytest.raises(Rejected, match="language: query is not in en"):
        FORM.read('{"query": "这是什么"}', {"query": "en"})


@given(
    st.text(max_size=80)
    | st.recursive(
        st.none() | st.text(),
        lambda x: st.dictionaries(st.sampled_from([*FORM.fields, "x"]), x) | st.lists(x),
        max_leaves=6,
    ).map(json.dumps)
)
@settings(max_examples=150, deadline=None)
@example("{" * 3000)
@example('{"query":' * 3000)
def test_any_text_is_read_or_rejected(text):
    found = None
    with contextlib.suppress(Rejected):
        found = FORM.read(text, {"query": "en"})
    assert found is None or 3 <= len(found["query"]) <= 20
