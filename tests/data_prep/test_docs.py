"""The docs corpus: records from the sources of packages, read and never imported, split by module."""

import json
import sys
from pathlib import Path

import pytest

from data_prep.docs.build import TASK_INSTRUCTION, build_docs
from data_prep.docs.clean import normalise, split_docstring
from data_prep.docs.negatives import Siblings
from data_prep.docs.parse import Entry, parse_file, source_files
from data_prep.docs.select import balanced, mask, split_of, unique_entries

NAMES = ("docs_fake_a", "docs_fake_b")
NOUNS = (
    "matrix",
    "graph",
    "tokenizer",
    "optimizer",
    "histogram",
    "polynomial",
    "calendar",
    "socket",
    "kernel",
)
VERBS = ("Solve", "Draw", "Rotate", "Compress", "Validate", "Schedule", "Estimate", "Interpolate")
ADVERBS = ("slowly", "twice", "backwards", "in place", "lazily", "by rows", "from disk", "over the network")


def function(verb, noun, adverb, number):
    words = " ".join(f"{noun}{verb[:2].lower()}{chr(97 + (number * k) % 26)}ly" for k in range(3, 23))
    return f'''
def {verb.lower()}_{noun}_{number}(value, *, limit=10):
    """{verb} the {noun} {adverb} until it fits.

    {words} while {noun} and {verb.lower()} are at work.

    Parameters
    ----------
    value : array_like
        The {noun} that :func:`{verb.lower()}` is given, {adverb}.

    Examples
    --------
    >>> {verb.lower()}_{noun}_{number}(3)
    secret output
    """
    total = sum(item for item in value if item is not None and item < limit)
    for {noun} in range(total):
        total += {noun} * {number} + len("{words[:60]}")
    return total
'''


@pytest.fixture
def fake_packages(tmp_path, monkeypatch):
    """Two packages of 36 modules that raise when imported, with a broken file and a tests folder."""
    root = tmp_path / "site"
    number = 0
    for package in NAMES:
        folder = root / package
        (folder / "tests").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
        (folder / "broken.py").write_text("def f(:\n    pass\n", encoding="utf-8")
        (folder / "tests" / "helper.py").write_text(function("Never", "seen", "here", 0), encoding="utf-8")
        for i, noun in enumerate(NOUNS):
            noun = noun if package == NAMES[0] else noun[::-1]  # other words: copies would be dropped
            for half in (0, 1):
                source = "raise RuntimeError('imported')\n"
                for verb, adverb in list(zip(VERBS, ADVERBS, strict=True))[half::2]:
                    number += 1
                    source += function(verb, noun, adverb, number)
                (folder / f"part{i}_{half}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(root))
    return root


def read(path: Path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tree(folder: Path):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def entry(
    name="f", query="Add two numbers together", body="The body of it.", code="", module="p.m", package="p"
):
    return Entry(package, module, name, query, body, code)


def test_modules_that_raise_on_import_are_read_and_never_imported(fake_packages, tmp_path):
    counts = build_docs(tmp_path / "out", seed=0, packages=NAMES)
    assert counts["train"]["records"] > 20
    assert counts["dev"]["queries"] > 0
    assert counts["test"]["queries"] > 5
    assert not any(name.startswith("docs_fake") for name in sys.modules)


def test_records_have_exactly_the_released_shape(fake_packages, tmp_path):
    build_docs(tmp_path, seed=0, packages=NAMES)
    keys = ["task_type", "query", "positives", "negatives", "positive_scores", "negative_scores"]
    records = read(tmp_path / "train" / "docs_ir.jsonl")
    for record in records:
        assert list(record) == keys
        assert record["task_type"] == "ir"
        assert record["query"][:2] == [TASK_INSTRUCTION, ""]
        assert all(
            t[:2] == ["", ""] and t[2] and len(t) == 3 for t in record["positives"] + record["negatives"]
        )
        assert record["positive_scores"] == [1.0] * len(record["positives"])
        assert record["negative_scores"] == [0.0] * len(record["negatives"])
        assert 1 <= len(record["positives"]) <= 2
    assert {len(record["positives"]) for record in records} == {1, 2}


def test_hard_negatives_are_distinct_and_never_a_positive(fake_packages, tmp_path):
    build_docs(tmp_path, seed=0, packages=NAMES)
    for record in read(tmp_path / "train" / "docs_ir.jsonl"):
        negatives = [triple[2] for triple in record["negatives"]]
        assert len(negatives) == len(set(negatives)) == 8
        assert not set(negatives) & {triple[2] for triple in record["positives"]}


def test_no_dev_or_test_text_is_in_the_training_file(fake_packages, tmp_path):
    build_docs(tmp_path, seed=0, packages=NAMES)
    train = {
        normalise(triple[2])
        for record in read(tmp_path / "train" / "docs_ir.jsonl")
        for triple in [record["query"], *record["positives"], *record["negatives"]]
    }
    for split in ("dev", "test"):
        folder = tmp_path / "eval" / split / "DocsRetrieval"
        held_out = {
            normalise(row["text"]) for f in ("corpus", "queries") for row in read(folder / f"{f}.jsonl")
        }
        assert held_out
        assert not held_out & train


def test_every_query_has_a_relevant_document_and_ids_are_unique(fake_packages, tmp_path):
    build_docs(tmp_path, seed=0, packages=NAMES)
    for split in ("dev", "test"):
        folder = tmp_path / "eval" / split / "DocsRetrieval"
        corpus, queries, qrels = (read(folder / f"{f}.jsonl") for f in ("corpus", "queries", "qrels"))
        documents, asked = [row["id"] for row in corpus], [row["id"] for row in queries]
        assert len(set(documents) | set(asked)) == len(documents) + len(asked)
        assert {row["query_id"] for row in qrels} == set(asked)
        assert {row["corpus_id"] for row in qrels} <= set(documents)
        assert not any(TASK_INSTRUCTION in row["text"] for row in queries)


def test_the_same_seed_gives_the_same_bytes_and_leaves_no_temporary_file(fake_packages, tmp_path):
    for name in ("first", "second"):
        build_docs(tmp_path / name, seed=3, packages=NAMES)
    assert tree(tmp_path / "first") == tree(tmp_path / "second")
    assert len(tree(tmp_path / "first")) == 7
    assert not any(name.endswith(".tmp") for name in tree(tmp_path / "first"))


def test_a_real_package_is_read_from_its_source_only(tmp_path):
    counts = build_docs(tmp_path, seed=0, packages=["omegaconf", "no_such_package"])
    assert list(counts["versions"]) == ["omegaconf"]
    assert sum(counts["entries_per_package"].values()) > 5


def test_tests_folders_are_skipped_and_a_file_limit_is_kept(fake_packages):
    files = source_files("docs_fake_a", 1000)
    assert not any(".tests." in module for _, module, _ in files)
    assert len(source_files("docs_fake_a", 5)) == 5
    assert set(source_files("docs_fake_a", 5)) <= set(files)


@pytest.mark.parametrize("source", [b"def f(:\n", b"\xff\xfe broken", b"a = 1\x00"])
def test_a_file_that_is_not_python_is_skipped(tmp_path, source):
    (tmp_path / "m.py").write_bytes(source)
    assert parse_file(("p", "p.m", str(tmp_path / "m.py"))) == []


def test_the_code_document_has_the_signature_and_not_the_docstring(fake_packages):
    item = next(item for item in source_files("docs_fake_a", 1000) if item[1] == "docs_fake_a.part1_0")
    first = parse_file(item)[0]
    assert first.query == "Solve the graph slowly until it fits."
    assert first.code.startswith("def solve_graph_")
    assert "array_like" not in first.code
    assert first.query not in first.code
    assert "secret output" not in first.body
    assert ">>>" not in first.body


DOCSTRING = """
norm(x, *, axis=None) -> out

Compute the :class:`~pkg.Norm` of ``x`` [1]_, see `the page <https://a.b>`_.

.. versionadded:: 1.2
   It was missing before.

.. note::
    Keep this sentence about overflow in large inputs.

Parameters
----------
x : array_like
    Input array of any shape, with **no** NaN in it::

        x = secret

Example (on a GPU):
    >>> norm(3)
    secret

Returns:
    A scalar, or [`~pkg.Array`] when `axis` is given.

References
----------
.. [1] A. Secret, "Norms".
"""


def test_markup_examples_and_citations_are_gone_and_prose_stays():
    query, body = split_docstring(DOCSTRING)
    assert query == "Compute the pkg.Norm of x, see the page."
    assert body.split("\n") == [
        "Keep this sentence about overflow in large inputs.",
        "Parameters:",
        "x : array_like",
        "Input array of any shape, with no NaN in it:",
        "Returns:",
        "A scalar, or pkg.Array when axis is given.",
    ]


@pytest.mark.parametrize(
    "summary",
    [
        "Initialize internal Module state, shared by both.",
        "See base class for all details.",
        "x (torch.Tensor of shape (batch,)): The input tensor.",
        "Args: the many things it takes.",
        "Too short.",
        "计算给定矩阵的所有特征值 和 特征 向量 并 返回",
    ],
)
def test_boilerplate_summaries_are_refused(summary):
    body = "It has quite enough words to be a document that somebody might want to find again."
    assert split_docstring(f"{summary}\n\n{body}") is None
    assert split_docstring(f"Find the largest eigenvalue.\n\n{body}") is not None


def test_copies_under_another_model_name_are_one():
    assert mask("The bare Bert model with a head", "t.modeling_bert", "BertModel") == mask(
        "The bare Gpt model with the head", "t.modeling_gpt", "GptModel"
    )
    words = " ".join(f"word{chr(97 + i)}" for i in range(20))
    bert = entry("BertModel.f", "Run Bert on a batch of ids", f"Bert {words}", module="t.modeling_bert")
    gpt = entry("GptModel.f", "Run Gpt on a batch of ids", f"Gpt {words} other", module="t.modeling_gpt")
    near = entry("g", "Something else altogether is asked", f"Now {words}", module="t.x")
    other = entry(
        "h", "Something quite different is asked", "No word of it is the same as before.", module="t.x"
    )
    assert unique_entries([bert, gpt, near, other]) == [bert, other]


def test_copied_code_loses_the_code_and_keeps_the_entry():
    code = "def f(x):\n    return x + one + two + three"
    entries = [
        entry(f"f{i}", f"Summary number {w} of these", f"Body about {w} {w}s and {w}ness.", code)
        for i, w in enumerate(("apples", "pears", "plums", "figs", "dates", "limes", "nuts", "kiwis"))
    ]
    kept = unique_entries(entries)
    assert len(kept) == len(entries)
    assert sum(bool(e.code) for e in kept) == 1


def test_a_module_is_on_one_side_and_all_sides_occur():
    sides = [split_of(f"p.m{i}") for i in range(400)]
    assert sides == [split_of(f"p.m{i}") for i in range(400)]
    assert {"train", "dev", "test"} == set(sides)
    assert 0.6 < sides.count("train") / 400 < 0.82


def test_selection_is_balanced_over_packages():
    entries = [
        entry(f"f{i}", package=p) for p, n in (("big", 50), ("mid", 20), ("small", 3)) for i in range(n)
    ]
    chosen = balanced(entries, 23, seed=0)
    assert [sum(e.package == p for e in chosen) for p in ("big", "mid", "small")] == [10, 10, 3]
    assert chosen != balanced(entries, 23, seed=1)
    assert len(balanced(entries, 1000, seed=0)) == len(entries)


def test_negatives_come_from_the_module_first_and_the_best_match_leads():
    own = entry("f", "rotate the image by ninety degrees", "Own body.", module="p.a.m")
    near = entry("g", body="It can rotate an image.", module="p.a.m")
    far = entry("h", body="Opens a socket.", module="p.a.m")
    beside = entry("i", body="rotate the image by ninety degrees", module="p.a.n")
    outside = entry("j", body="degrees of the image", module="p.b")
    siblings = Siblings([own, far, near, beside, outside])
    assert siblings.hard_negatives(own, 8) == [near.body, far.body, beside.body, outside.body]
    assert siblings.hard_negatives(own, 1) == [near.body]
