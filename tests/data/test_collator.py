"""From records to a packed batch: what is drawn, what is encoded once, and who owns it."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from codiemb.batch import Batch
from codiemb.data import Collator, Record, TaskSpec, Text, content_hash
from codiemb.encoder import Encoder, ModelSpec, PromptTemplate, TextTokenizer, load_encoder

TASKS = {"ir": TaskSpec(), "sts": TaskSpec()}


def ir(query, positives, negatives=(), instruction="Find"):
    documents = [[Text("", text) for text in texts] for texts in (positives, negatives)]
    return Record("ir", Text(instruction, query), *documents, [], [])


def sts(left, right, score, instruction="Match"):
    return Record("sts", Text(instruction, left), [Text(instruction, right)], [], [score], [])


def collate(tokenizer, records, *, tasks=TASKS, seed=1, epoch=0, indices=None):
    indices = list(range(len(records))) if indices is None else indices
    return Collator(tokenizer, tasks, seed)(records, source="s", epoch=epoch, indices=indices)


def sequences(batch: Batch) -> list[tuple[int, ...]]:
    parts = batch.texts.input_ids_T.split(list(batch.texts.sequence_lengths))
    return [tuple(part.tolist()) for part in parts]


def documents_of(batch, owner, positive):
    """Content hashes of one query's positives or negatives."""
    mine = (batch.groups.owner_N == owner) & (batch.groups.is_positive_N == positive)
    return batch.groups.document_hash_N[mine].tolist()


def equal(a: Batch, b: Batch) -> bool:
    pairs = zip((*a[3:], a.texts.input_ids_T), (*b[3:], b.texts.input_ids_T), strict=True)
    same = all(torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) for x, y in pairs)
    return same and a[:2] == b[:2] and a.texts[1:] == b.texts[1:]


# Groups


def test_groups_are_ragged_and_nothing_is_repeated_to_fill_a_rectangle(tokenizer):
    records = [ir("a", ["p1"]), ir("b", ["p2", "p3", "p4"], ["n1"]), ir("c", ["p5"], ["n2", "n3", "n4"])]
    batch = collate(tokenizer, records)
    assert batch.groups.owner_N.tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    for owner, record in enumerate(records):
        for positive, texts in ((True, record.positives), (False, record.negatives)):
            assert sorted(documents_of(batch, owner, positive)) == sorted(content_hash(t.text) for t in texts)


@pytest.mark.parametrize(
    ("limits", "expected"), [((2, 4), (2, 4)), ((1, 0), (1, 0)), ((9, 9), (5, 7)), ((None, None), (5, 7))]
)
def test_a_group_has_at_most_the_configured_number_of_documents(tokenizer, limits, expected):
    record = ir("q", [f"p{i}" for i in range(5)], [f"n{i}" for i in range(7)])
    tasks = {"ir": TaskSpec(num_positives=limits[0], num_negatives=limits[1])}
    batch = collate(tokenizer, [record] * 20, tasks=tasks)
    for owner in range(20):
        for positive, count in zip((True, False), expected, strict=True):
            drawn = documents_of(batch, owner, positive)
            assert len(drawn) == len(set(drawn)) == count  # never the same one twice


def test_the_draw_is_a_function_of_seed_epoch_and_example_only(tokenizer):
    tasks = {"ir": TaskSpec(num_positives=2, num_negatives=3)}
    records = [
        ir(f"q{i}", [f"p{i}.{k}" for k in range(9)], [f"n{i}.{k}" for k in range(9)]) for i in range(6)
    ]

    def drawn(examples, seed=1, epoch=0):
        batch = collate(
            tokenizer, [records[i] for i in examples], tasks=tasks, indices=examples, seed=seed, epoch=epoch
        )
        return {
            i: (documents_of(batch, row, True), documents_of(batch, row, False))
            for row, i in enumerate(examples)
        }

    together = drawn([0, 1, 2, 3, 4, 5])
    assert drawn([5, 3, 1]) == {i: together[i] for i in (5, 3, 1)}
    assert drawn([2]) == {2: together[2]}
    assert drawn([0, 1, 2], seed=2) != drawn([0, 1, 2])
    assert drawn([0, 1, 2], epoch=1) != drawn([0, 1, 2])


def test_over_epochs_every_document_is_drawn_equally_often(tokenizer):
    tasks = {"ir": TaskSpec(num_positives=1, num_negatives=1)}
    record = ir("q", [f"p{i}" for i in range(4)], [f"n{i}" for i in range(4)])
    counts: dict[int, int] = {}
    for epoch in range(20):
        batch = collate(tokenizer, [record] * 20, tasks=tasks, epoch=epoch)
        for drawn in batch.groups.document_hash_N.tolist():
            counts[drawn] = counts.get(drawn, 0) + 1
    assert len(counts) == 8
    assert all(60 < count < 140 for count in counts.values())  # 100 on average, standard deviation 8.7


# Prompts and scores


def test_both_sides_of_sts_carry_the_instruction_and_documents_of_ir_none(tokenizer):
    prompt = "Instruction: Match \nQuery: "
    for batch, side_has_prompt in (
        (collate(tokenizer, [sts("left", "right", 0.5)]), (True, True)),
        (collate(tokenizer, [ir("left", ["right"], instruction="Match")]), (True, False)),
    ):
        rows = (batch.query_sequence_B[0], batch.document_sequence_N[0])
        for row, text, has_prompt in zip(rows, ("left", "right"), side_has_prompt, strict=True):
            ids = list(sequences(batch)[row])
            assert tokenizer.hf.decode(ids) == (prompt + text if has_prompt else text)
            assert tokenizer.hf.decode(ids[batch.texts.prompt_lengths[row] :]).strip() == text


def prompted(tokenizer, records, tasks=None):
    """Every query and document of a batch, decoded with its prompt."""
    batch = collate(tokenizer, records, tasks=tasks or TASKS | {"mixed": TaskSpec()})
    rows = [tokenizer.hf.decode(row) for row in sequences(batch)]
    queries, documents = batch.query_sequence_B.tolist(), batch.document_sequence_N.tolist()
    return [rows[row] for row in queries], sorted(rows[row] for row in documents)


E5, BGE = PromptTemplate("query: ", "passage: "), PromptTemplate("search: ", "")
BOTH_PROMPTS = [  # template, record, query, documents
    (E5, ir("a", ["b"], ["c"], instruction=""), "query: a", ["passage: b", "passage: c"]),
    (E5, ir("a", ["b"]), "query: a", ["passage: b"]),
    (E5, sts("a", "b", 0.5, instruction=""), "query: a", ["query: b"]),
    (E5, sts("a", "b", 0.5), "query: a", ["query: b"]),
    (BGE, ir("a", ["b"], instruction=""), "search: a", ["b"]),
    (BGE, sts("a", "b", 0.5, instruction=""), "a", ["b"]),
    (E5, Record("mixed", Text("", "a"), [Text("", "b")], [], [], []), "query: a", ["passage: b"]),
    (E5, Record("mixed", Text("", "a"), [Text("", "b")], [], [0.5], []), "query: a", ["query: b"]),
    (E5, Record("sts", Text("Find", "a"), [Text("", "b")], [], [0.5], []), "query: a", ["passage: b"]),
    (PromptTemplate("Do: {instruction}\n", "doc: "), ir("a", ["b"], instruction=""), "a", ["doc: b"]),
]


@pytest.mark.parametrize(("template", "record", "query", "documents"), BOTH_PROMPTS, ids=str)
def test_a_record_without_instructions_has_the_prompts_of_its_sides(
    tokenizer_folder, template, record, query, documents
):
    hf = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    tokenizer = TextTokenizer(hf, template)
    assert prompted(tokenizer, [record]) == ([query], documents)


def test_scores_stay_with_their_documents_and_are_nan_for_ir(tokenizer):
    texts = [f"p{i}" for i in range(6)]
    graded = Record("sts", Text("", "q"), [Text("", t) for t in texts], [], [i / 5 for i in range(6)], [])
    batch = collate(tokenizer, [graded])
    score_of = {content_hash(text): i / 5 for i, text in enumerate(texts)}
    for hashed, score in zip(
        batch.groups.document_hash_N.tolist(), batch.groups.score_N.tolist(), strict=True
    ):
        assert score == pytest.approx(score_of[hashed])
    assert collate(tokenizer, [ir("q", ["p"], ["n"])]).groups.score_N.isnan().tolist() == [True, True]


def test_long_texts_are_cut_at_the_limit_of_their_side(tokenizer):
    tasks = {"ir": TaskSpec(max_query_tokens=40, max_document_tokens=7)}
    batch = collate(tokenizer, [ir("query " * 50, ["document " * 50])], tasks=tasks)
    lengths = batch.texts.sequence_lengths
    assert lengths[int(batch.query_sequence_B[0])] == 40
    assert lengths[int(batch.document_sequence_N[0])] == 7


# One sequence per distinct text

words = st.sampled_from(["a", "a ", "b", "kettle", "bank", "closed bank", "你好", "小说、"])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(words, st.lists(words, min_size=1, max_size=3), st.lists(words, max_size=3)),
        min_size=1,
        max_size=6,
    )
)
def test_every_distinct_text_is_one_sequence_and_everybody_points_at_their_own(tokenizer, groups):
    batch = collate(tokenizer, [ir(*group) for group in groups])
    rows = sequences(batch)
    keys = list(zip(rows, batch.texts.prompt_lengths, strict=True))
    assert len(set(keys)) == len(keys)
    used = {*batch.query_sequence_B.tolist(), *batch.document_sequence_N.tolist()}
    assert used == set(range(len(rows)))
    assert [len(row) for row in rows] == sorted(len(row) for row in rows)
    for (query, _, _), row in zip(groups, batch.query_sequence_B.tolist(), strict=True):
        assert rows[row] == tuple(tokenizer([("Find", query)], 512)[0].input_ids)
    hash_of_row = {}
    for row, hashed in zip(
        batch.document_sequence_N.tolist(), batch.groups.document_hash_N.tolist(), strict=True
    ):
        assert hash_of_row.setdefault(row, hashed) == hashed
    for owner, (_, positives, negatives) in enumerate(groups):
        for positive, texts in ((True, positives), (False, negatives)):
            mine = (batch.groups.owner_N == owner) & (batch.groups.is_positive_N == positive)
            found = sorted(rows[row] for row in batch.document_sequence_N[mine].tolist())
            assert found == sorted(tuple(tokenizer([("", text)], 512)[0].input_ids) for text in texts)


def test_a_text_that_is_query_and_document_shares_a_sequence_only_with_the_same_prompt(tokenizer):
    pair = collate(tokenizer, [sts("same", "same", 1.0)])
    assert len(pair.texts.sequence_lengths) == 1
    passage = collate(tokenizer, [ir("same", ["same"])])
    assert len(passage.texts.sequence_lengths) == 2
    assert passage.groups.query_hash_B.tolist() == passage.groups.document_hash_N.tolist()


@pytest.fixture(scope="module")
def encoder(tokenizer_folder: Path) -> Encoder:
    architecture = {
        "model_type": "qwen3",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
    torch.manual_seed(0)
    return load_encoder(ModelSpec(tokenizer=str(tokenizer_folder), architecture=architecture)).eval()


@torch.no_grad()
def test_every_query_and_document_is_embedded_as_if_it_were_alone(encoder):
    records = [
        ir("kettle", ["bank", "kettle"], ["closed", "bank"]),
        ir("bank", ["kettle"]),
        ir("a much longer query about a bank", ["你好"], ["bank"]),
    ]
    batch = collate(encoder.tokenizer, records)
    embedded = encoder.embed(batch)
    for record, row in zip(records, embedded.query_BD, strict=True):
        (alone,) = torch.from_numpy(encoder.encode([record.query.text], instruction="Find"))
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=0)
    text_of = {content_hash(t.text): t.text for r in records for t in (*r.positives, *r.negatives)}
    for hashed, row in zip(batch.groups.document_hash_N.tolist(), embedded.document_ND, strict=True):
        (alone,) = torch.from_numpy(encoder.encode([text_of[hashed]]))
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=0)


def test_a_batch_without_negatives_or_of_one_query_has_the_same_types(tokenizer):
    many = collate(tokenizer, [ir("a", ["b"], ["c"]), ir("d", ["e"])])
    one = collate(tokenizer, [ir("a", ["b"])])
    assert [x.dtype for x in many[3:-1]] == [x.dtype for x in one[3:-1]]
    assert math.isnan(one.groups.score_N[0])


# Content hash


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Bank", "bank"),
        ("STRASSE", "straße"),
        ("ＡＢＣ１２", "abc12"),
        ("a\u3000b", "a b"),
        ("  a \t\n b ", "a b"),
        ("ﬁne", "fine"),
        ("e\u0301te", "éte"),
        ("（括号）", "(括号)"),
        ("H₂O", "h2o"),
    ],
)
def test_the_content_hash_ignores_case_width_and_spacing(text, same):
    assert content_hash(text) == content_hash(same)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("ab", "a b"),
        ("a.", "a"),
        ("été", "ete"),
        ("1", "2"),
        ("你", "妳"),
        ("10² km", "102 km"),
        ("5½ cups", "51⁄2 cups"),
    ],
)
def test_the_content_hash_keeps_other_differences(a, b):
    assert content_hash(a) != content_hash(b)


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_content_hash_is_a_signed_64_bit_number_that_a_tensor_holds(text):
    assert torch.tensor([content_hash(text)], dtype=torch.int64).item() == content_hash(text)


def test_the_content_hash_is_the_same_in_every_process():
    """Ranks and machines must agree, whatever their PYTHONHASHSEED: the numbers themselves are fixed."""
    assert content_hash("") == -1205034819632174695
    assert content_hash("Bank") == -5191752048787533888
    assert content_hash("重生鸿蒙类小说") == -8242113024450901413
