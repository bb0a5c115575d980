"""Where the prompt ends, counted a second way: by the bytes or characters that the tokens spell."""

import functools
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from codiemb.encoder import PromptTemplate, TextTokenizer
from codiemb.errors import UserError
from tests.support import tiny

CHARACTERS = "".join(sorted({char for text in tiny.SENTENCES for char in text} - {"\n"}))
instructions = st.text(CHARACTERS + "\n", min_size=1, max_size=30)
texts = st.text(CHARACTERS, min_size=1, max_size=30).map(str.strip).filter(bool)
TEMPLATES = [
    PromptTemplate(),
    PromptTemplate("Instruct: {instruction}\nQuery:", "passage: "),
    PromptTemplate("{instruction}: ", "文档："),
    PromptTemplate("为这个句子生成表示以用于检索相关文章：", ""),
]


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def template_processing(*pieces):
    """The JSON of a TemplateProcessing: "A" is the text, everything else a token of the tiny tokenizer."""
    ids = {"<|pad|>": 0, "<|end_of_text|>": 1, "<|mask|>": 2}
    spell = lambda piece: (  # noqa: E731
        {"Sequence": {"id": "A", "type_id": 0}}
        if piece == "A"
        else {"SpecialToken": {"id": piece, "type_id": 0}}
    )
    return {
        "type": "TemplateProcessing",
        "single": [spell(piece) for piece in pieces],
        "pair": [*(spell(piece) for piece in pieces), {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            piece: {"id": piece, "ids": [ids[piece]], "tokens": [piece]} for piece in pieces if piece != "A"
        },
    }


def with_post_processor(folder, out, post_processor):
    """A copy of a tokenizer that adds other tokens of its own."""
    shutil.copytree(folder, out)
    state = json.loads((out / "tokenizer.json").read_text("utf-8"))
    known = {entry["content"]: entry["id"] for entry in state["added_tokens"]}
    assert known == {"<|pad|>": 0, "<|end_of_text|>": 1, "<|mask|>": 2}
    (out / "tokenizer.json").write_text(json.dumps(state | {"post_processor": post_processor}), "utf-8")
    return out


@functools.cache
def load(folder, template=None, **settings):
    return TextTokenizer(AutoTokenizer.from_pretrained(folder), template or PromptTemplate(), **settings)


@pytest.fixture(scope="session")
def by_kind(byte_level, wordpiece, metaspace, qwen):
    return {"byte_level": byte_level, "wordpiece": wordpiece, "metaspace": metaspace, "qwen": qwen}


def spelled_lengths(tokenizer, kind, ids):
    """How many bytes (byte-level) or characters (others) every token spells; specials spell none."""
    special = set(tokenizer.hf.all_special_ids)
    tokens = tokenizer.hf.convert_ids_to_tokens(ids)
    return [
        0 if i in special else len(token.removeprefix("##") if kind == "wordpiece" else token)
        for i, token in zip(ids, tokens, strict=True)
    ]


def prompt_spelling(tokenizer, kind, prompt):
    """How much of the spelling is the prompt's."""
    if kind in ("byte_level", "qwen"):
        return len(prompt.encode())  # every byte is one character of the byte alphabet
    if kind == "metaspace":
        return len(prompt) + (not prompt.startswith(" "))  # one character each, and one more in front
    return len("".join(tokenizer.hf.backend_tokenizer.normalizer.normalize_str(prompt).split()))


def oracle(tokenizer, kind, ids, prompt):
    """The first token whose spelling reaches beyond the prompt's."""
    limit, seen = prompt_spelling(tokenizer, kind, prompt), 0
    for i, length in enumerate(spelled_lengths(tokenizer, kind, ids)):
        seen += length
        if seen > limit:
            return i
    raise AssertionError("no text behind the prompt")


@pytest.mark.parametrize(
    ("template", "line"),
    [
        (
            PromptTemplate(),
            r"prompts: 'Instruction: {instruction} \nQuery: ' before texts with an instruction",
        ),
        (
            PromptTemplate("query: ", "passage: "),
            "prompts: 'query: ' before queries, 'passage: ' before documents",
        ),
        (
            PromptTemplate("{instruction}: ", instruction="Find"),
            "prompts: '{instruction}: ' before texts with an instruction (queries without one: 'Find')",
        ),
        (PromptTemplate(""), "no prompts"),
    ],
)
def test_a_run_says_what_it_puts_before_which_texts(template, line):
    assert template.describe() == line


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.query[:12])
@pytest.mark.parametrize("kind", ["byte_level", "wordpiece", "metaspace", "qwen"])
@settings(max_examples=25, deadline=None)
@given(instruction=instructions, text=texts)
def test_the_prompt_is_pooled_out_exactly(by_kind, kind, template, instruction, text):
    tokenizer = load(by_kind[kind], template)
    for chosen in (instruction, ""):
        ids, prompt_length = tokenizer([(chosen, text)], 512)[0]
        prompt = template.prompt(chosen)
        assert prompt_length == (oracle(tokenizer, kind, ids, prompt) if prompt else 0)


@pytest.mark.parametrize("append_eos", [False, True])
@pytest.mark.parametrize("template", TEMPLATES[:2], ids=lambda template: template.query[:12])
@pytest.mark.parametrize("kind", ["byte_level", "wordpiece", "metaspace", "qwen"])
@settings(max_examples=25, deadline=None)
@given(instruction=st.text(CHARACTERS, min_size=1, max_size=20), text=texts)
def test_counting_the_prompt_alone_gives_the_same_length(
    by_kind, kind, template, append_eos, instruction, text
):
    """sentence-transformers counts the prompt's tokens with specials, less one that ends them."""
    tokenizer = load(by_kind[kind], template, append_eos=append_eos and kind in ("byte_level", "qwen"))
    assert tokenizer.boundary_is_clean()
    for chosen in (instruction, ""):
        prompt = template.prompt(chosen)
        alone = tokenizer.hf(prompt)["input_ids"]
        counted = len(alone) - (bool(alone) and alone[-1] in tokenizer.hf.all_special_ids)
        assert tokenizer([(chosen, text)], 512)[0].prompt_length == (counted if prompt else 0)


@pytest.mark.parametrize("kind", ["byte_level", "wordpiece", "metaspace", "qwen"])
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_a_text_has_the_same_tokens_behind_a_prompt_as_at_the_start_of_a_document(by_kind, kind, text):
    tokenizer = load(by_kind[kind])
    query, document = tokenizer([("Retrieve", text), ("", text)], 512)
    start = len(document.input_ids) - (len(query.input_ids) - query.prompt_length)
    assert start in (0, 1)  # [CLS] or <s>, which a prompt pushes away
    assert query.input_ids[query.prompt_length :] == document.input_ids[start:]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.query[:12])
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_texts_without_a_prompt_have_the_tokens_that_the_model_was_trained_on(byte_level, template, text):
    """Also texts with a prompt, or the end of one (": "), in their middle."""
    plain = AutoTokenizer.from_pretrained(byte_level)
    text = "note passage: Instruct: a\nQuery:b, " + text.replace(",", ": ")
    if template.query.startswith("{"):
        text = text.replace(": ", ". ")  # this template begins with anything, so any text may be a prompt
    assert load(byte_level, template).hf(text)["input_ids"] == plain(text)["input_ids"]


def test_without_the_isolation_a_byte_level_tokenizer_glues_prompt_and_text_together(byte_level):
    """The trap itself: if this stops being true, the tests above prove nothing."""
    plain = AutoTokenizer.from_pretrained(byte_level)
    glued = plain("Query: hello")["input_ids"]
    assert glued[: len(plain("Query: ")["input_ids"])] != plain("Query: ")["input_ids"]


def test_a_token_that_straddles_prompt_and_text_is_pooled(byte_level):
    tokenizer = load(byte_level, PromptTemplate("{instruction}"))
    ids, prompt_length = tokenizer([("say: hel", "lo world")], 64)[0]
    assert tokenizer.hf.convert_ids_to_tokens(ids)[prompt_length] == "Ġhello"


@pytest.mark.parametrize(("kind", "max_tokens"), [("byte_level", 30), ("wordpiece", 40), ("qwen", 30)])
def test_texts_are_cut_at_max_tokens_and_keep_their_last_special_token(by_kind, kind, max_tokens):
    tokenizer = load(by_kind[kind], append_eos=kind != "wordpiece")
    last = tokenizer.hf.eos_token_id if kind != "wordpiece" else tokenizer.hf.sep_token_id
    for text, instruction in (("hello world " * 50, "Retrieve"), ("余额不足" * 50, "")):
        ids, prompt_length = tokenizer([(instruction, text)], max_tokens)[0]
        assert len(ids) == max_tokens
        assert ids[-1] == last
        assert prompt_length < max_tokens - 1
    assert tokenizer([("", "word")], max_tokens)[0].input_ids[-1] == last


def test_eos_is_appended_once_by_a_tokenizer_that_already_does(byte_level):
    tokenizer = load(byte_level, append_eos=True).hf
    again = TextTokenizer(tokenizer, PromptTemplate(), append_eos=True)
    assert again([("", "hello")], 64)[0].input_ids.count(tokenizer.eos_token_id) == 1


def test_append_eos_without_an_eos_token_is_a_user_error(wordpiece):
    with pytest.raises(UserError, match="append_eos=false"):
        load(wordpiece, append_eos=True)


@pytest.mark.parametrize("kind", ["byte_level", "wordpiece", "metaspace"])
def test_a_prompt_that_fills_max_tokens_is_a_user_error(by_kind, kind):
    with pytest.raises(UserError, match=r"fills all of max_tokens=8.*shorten the instruction"):
        load(by_kind[kind])([("Retrieve documents that answer the question", "hello")], 8)


def test_the_models_positions_cap_the_length_of_a_text(byte_level):
    tokenizer = load(byte_level, max_positions=20)
    assert len(tokenizer([("", "hello world " * 50)], 512)[0].input_ids) == 20
    assert len(tokenizer([("", "hello world " * 50)], 10)[0].input_ids) == 10


@pytest.mark.parametrize("append_eos", [False, True])
@pytest.mark.parametrize("instruction", ["Retrieve", ""])
@pytest.mark.parametrize("kind", ["byte_level", "wordpiece", "metaspace"])
def test_a_blank_text_has_a_token_to_pool(by_kind, kind, instruction, append_eos):
    tokenizer = load(by_kind[kind], append_eos=append_eos and kind == "byte_level")
    ids, prompt_length = tokenizer([(instruction, "")], 64)[0]
    assert len(ids) > prompt_length
    assert set(ids[prompt_length:]) <= set(tokenizer.hf.all_special_ids)


def test_pooling_the_prompt_leaves_the_tokenizer_and_its_tokens_alone(byte_level):
    tokenizer = load(byte_level, pool_prompt=True)
    plain = AutoTokenizer.from_pretrained(byte_level)
    prompt = tokenizer.template.prompt("Retrieve")
    assert tokenizer([("Retrieve", "hello")], 64)[0] == (plain(prompt + "hello")["input_ids"], 0)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (("{instruction} {instruction}",), "query=.* more than once"),
        (("Instruct: {task}\nQuery: ",), "query=.*{task} would stand there as it is; what is filled in is"),
        (("Instruct: {}\nQuery: ",), "query=.*{} would stand there"),
        (("{instruction}: {text}",), "query=.*{text} would stand there .* the text follows the prompt"),
        (("{instruction}: ", "title: {title}"), "document=.*{title} would stand there"),
        (("{instruction}: ", "{instruction}: "), "document=.* documents have no instruction"),
        (("query: ", "", "Find"), "instruction='Find' stands in for .*query='query: ' does not hold"),
    ],
)
def test_a_template_of_which_something_would_not_be_filled_in_is_a_user_error(template, message):
    with pytest.raises(UserError, match=f"model.prompt.{message}"):
        PromptTemplate(*template)


def test_braces_that_name_nothing_are_part_of_a_prompt():
    assert PromptTemplate('{"query": ', "{ }").prompt("", "query") == '{"query": '


def test_a_query_prompt_without_a_place_for_instructions_is_fixed():
    template = PromptTemplate("query: ", "passage: ")
    assert [template.prompt("anything"), template.prompt("")] == ["query: ", "passage: "]


PROMPTS = [  # template, side, instruction, prompt
    (("query: ", "passage: "), "query", "", "query: "),
    (("query: ", "passage: "), "query", "Find", "query: "),
    (("query: ", "passage: "), "document", "", "passage: "),
    (("query: ", "passage: "), "document", "Find", "passage: "),
    (("query: ", "passage: "), "text", "", "query: "),  # the authors of E5: also for symmetric tasks
    (("search: ", ""), "query", "", "search: "),
    (("search: ", ""), "document", "", ""),
    (("search: ", ""), "text", "", ""),  # the authors of BGE: only for queries of a search
    (("search: ", ""), "text", "Match", "search: "),
    (("Do: {instruction}\n", "passage: "), "query", "Find", "Do: Find\n"),
    (("Do: {instruction}\n", "passage: "), "query", "", ""),  # never a document's prompt
    (("Do: {instruction}\n", "passage: "), "text", "Match", "Do: Match\n"),
    (("Do: {instruction}\n", "passage: "), "text", "", ""),
    (("Do: {instruction}\n", "passage: "), "document", "", "passage: "),
    (("Do: {instruction}\n", "", "Search"), "query", "", "Do: Search\n"),
    (("Do: {instruction}\n", "", "Search"), "query", "Find", "Do: Find\n"),
    (("Do: {instruction}\n", "", "Search"), "text", "", ""),
    (("", ""), "query", "Find", ""),
]


@pytest.mark.parametrize(("template", "side", "instruction", "prompt"), PROMPTS, ids=str)
def test_a_text_is_a_query_because_of_its_side_and_not_because_it_has_an_instruction(
    wordpiece, template, side, instruction, prompt
):
    assert PromptTemplate(*template).prompt(instruction, side) == prompt
    tokenizer = load(wordpiece, PromptTemplate(*template), pool_prompt=True)
    expected = tokenizer.hf(prompt + "hello")["input_ids"]
    assert tokenizer([(instruction, "hello")], 64, side) == [(expected, 0)]
    assert tokenizer([("", "a"), (instruction, "hello")], 64, ["document", side])[1] == (expected, 0)


FAMILIES = {  # what the tokenizer adds to a text of itself, as post-processors of tokenizer.json
    "GPT-2, Qwen": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True},
    "Mistral": template_processing("<|pad|>", "A"),
    "Llama 3": {"type": "Sequence", "processors": [BYTE_LEVEL, template_processing("<|pad|>", "A")]},
    "both ends": template_processing("<|mask|>", "A", "<|pad|>"),
    "BERT": {"type": "BertProcessing", "cls": ["<|mask|>", 2], "sep": ["<|pad|>", 0]},
    "already EOS": template_processing("<|pad|>", "A", "<|end_of_text|>"),
    "RoBERTa": {
        "type": "RobertaProcessing",
        "cls": ["<|pad|>", 0],
        "sep": ["<|end_of_text|>", 1],
        "trim_offsets": True,
        "add_prefix_space": False,
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_ends_a_text_with_one_eos_and_cuts_it_to_exactly_max_tokens(
    byte_level, tmp_path, family
):
    folder = with_post_processor(byte_level, tmp_path / "tokenizer", FAMILIES[family])
    plain = AutoTokenizer.from_pretrained(folder)
    eos = plain.eos_token_id
    tokenizer = TextTokenizer(
        AutoTokenizer.from_pretrained(folder), PromptTemplate("q: ", ""), append_eos=True
    )
    for text in ("hello world", "余额不足"):
        before = plain(text)["input_ids"]
        assert tokenizer([("", text)], 64)[0].input_ids == [*before[: len(before) - (before[-1] == eos)], eos]
    long = "hello world " * 50
    for side in ("query", "document"):
        cut, whole = (tokenizer([("", long)], limit, side)[0] for limit in (20, 512))
        assert len(cut.input_ids) == 20
        assert cut.input_ids[-1] == eos
        assert eos not in cut.input_ids[:-1]
        assert cut.input_ids[:17] == whole.input_ids[:17]  # at most three are added at the end
        assert cut.prompt_length == whole.prompt_length
    for window in tokenizer.windows(long, 20)[:2]:
        assert len(window.input_ids) == 20
        assert window.input_ids[-1] == eos


@pytest.mark.parametrize("pool_prompt", [False, True])
def test_a_tokenizer_may_drop_what_it_does_not_know(pool_prompt):
    """BPE without an unknown token has no tokens at all for letters that it has not seen."""
    model = Tokenizer(models.BPE({"a": 0, ":": 1, "</s>": 2}, []))
    hf = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="</s>", pad_token="</s>")
    tokenizer = TextTokenizer(hf, PromptTemplate("q: ", "文档"), pool_prompt=pool_prompt)
    rows = tokenizer(
        [("", "a"), ("", "好"), ("", "a"), ("", "好")], 10, ["query", "query", "document", "document"]
    )
    assert all(row.prompt_length < len(row.input_ids) for row in rows)
    assert [row.input_ids for row in rows[1:]] == ([[1], [0], [2]] if pool_prompt else [[1, 2], [0], [2]])
