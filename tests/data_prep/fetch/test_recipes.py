"""Every recipe that is here: it is whole, says where each fact is from, and reads its layout."""

import math

import pytest

from codiemb.errors import UserError
from data_prep.fetch.importers import IMPORTERS, load_importer
from data_prep.fetch.recipe import UNKNOWN, load_recipe, names, parse_recipe
from tests.support.fetching import fetch, judged, table, write_all
from tests.support.miniatures import MINIATURES


def test_there_is_a_miniature_for_each_recipe():
    assert set(names()) == MINIATURES.keys()
    assert len(names()) >= 25


@pytest.mark.parametrize("name", names())
def test_a_recipe_says_where_every_fact_is_from(name):
    recipe = load_recipe(name)
    facts = {"repository", "columns", "licence", "instruction"}
    facts |= {"score_range"} if recipe.task == "sts" else set()
    facts |= {"labels"} if recipe.labels else set()
    assert facts - recipe.sources.keys() == set()
    assert all(
        "2026" in source or "ours" in source or "conf/" in source for source in recipe.sources.values()
    )
    assert recipe.licence
    assert recipe.language in ("zh", "en", "mul")
    assert recipe.files.keys() == load_importer(recipe.importer).keys()
    assert len(recipe.revision) == 40 or recipe.revision in ("main", "HEAD")


@pytest.mark.parametrize("name", names())
def test_a_recipe_reads_its_layout(name, tmp_path):
    raw = write_all(tmp_path / "raw", MINIATURES[name])
    out = fetch(tmp_path / "out", recipe=name, from_=raw, accept_licence=True)
    recipe, queries, qrels = load_recipe(name), table(out, "queries"), table(out, "qrels")
    assert queries
    assert table(out, "corpus")
    assert any(row["grade"] > 0 for row in qrels)
    assert all(0 <= row["grade"] <= 2 and math.isfinite(row["grade"]) for row in qrels)
    assert all(row["instruction"] for row in queries)
    assert {row["lang"] for row in queries} == {None if recipe.language == "mul" else recipe.language}
    assert not any("not for training" in row["text"] for row in queries)


def test_grades_of_t2ranking_part_what_answers_from_what_is_only_near(tmp_path):
    raw = write_all(tmp_path / "raw", MINIATURES["t2ranking"])
    assert judged(fetch(tmp_path / "out", recipe="t2ranking", from_=raw)) == {
        ("问", "甲", 0), ("问", "乙", 0), ("问", "丙", 1), ("问", "丁", 2),
    }  # fmt: skip


def test_inference_pairs_keep_what_follows_and_what_contradicts(tmp_path):
    raw = write_all(tmp_path / "raw", MINIATURES["cmnli"])
    found = judged(fetch(tmp_path / "out", recipe="cmnli", from_=raw, accept_licence=True))
    assert found == {("他在跑", "他在运动", 1), ("他在跑", "他在睡觉", 0)}


def test_a_class_is_a_document_and_the_others_are_wrong(tmp_path):
    raw = write_all(tmp_path / "raw", MINIATURES["tnews"])
    found = judged(fetch(tmp_path / "out", recipe="tnews", from_=raw, accept_licence=True))
    assert len(found) == 15
    assert {document for _, document, grade in found if grade} == {"news_edu"}


def test_a_query_is_parted_from_the_instruction_that_it_carries(tmp_path):
    raw = write_all(tmp_path / "raw", MINIATURES["f2llm"])
    out = fetch(tmp_path / "out", recipe="f2llm", from_=raw)
    (query,) = table(out, "queries")
    assert (query["instruction"], query["text"]) == ("Given a question, find the answer", "what is it?")
    assert sorted(row["grade"] for row in table(out, "qrels")) == [0, 0, 1]


def test_a_score_that_comes_along_is_a_candidate_of_its_scorer(tmp_path):
    raw = write_all(tmp_path / "raw", MINIATURES["mmarco_zh_scored"])
    out = fetch(tmp_path / "out", recipe="mmarco_zh_scored", from_=raw, accept_licence=True)
    scores = [(row["score"], row["rank"], row["scorer"]) for row in table(out, "candidates/given")]
    assert scores == [(pytest.approx(0.9), None, "reranker"), (pytest.approx(0.2), None, "reranker")]


def test_a_file_cut_inside_a_character_is_read_as_one(tmp_path):
    raw = write_all(tmp_path / "raw", MINIATURES["multi_cpr_medical"])
    first, second = sorted((raw / "data/medical").glob("corpus_split_*"))
    whole = first.read_bytes() + second.read_bytes()
    at = whole.index("神".encode()) + 1
    first.write_bytes(whole[:at])
    second.write_bytes(whole[at:])
    out = fetch(tmp_path / "out", recipe="multi_cpr_medical", from_=raw, accept_licence=True)
    assert [row["text"] for row in table(out, "corpus")] == ['Nikon/尼康 Z62 "套机"', "海上女神妈祖", "别的"]


def test_a_licence_that_nobody_states_must_be_accepted(tmp_path):
    assert load_recipe("afqmc").licence == UNKNOWN
    raw = write_all(tmp_path / "raw", MINIATURES["afqmc"])
    with pytest.raises(UserError, match=r"licence: unknown.*C-MTEB/AFQMC.*--accept-licence"):
        fetch(tmp_path / "out", recipe="afqmc", from_=raw)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"licens": "x"}, "unknown key licens; did you mean licence?"),
        (
            {"files": {"records": {"path": "a", "colums": {}}}},
            "unknown key files.records.colums; did you mean columns?",
        ),
        ({"task": "rerank"}, "task: Input should be 'ir' or 'sts'"),
        ({"score_range": [5, 0]}, "score_range: 5.0 is not below 0.0"),
        ({"repository": "no slash"}, "repository: OWNER/NAME of the hub"),
        ({"query_pattern": "Query: (.*)"}, "query_pattern: needs the groups"),
        ({"importer": None}, "importer: Input should be a valid string"),
    ],
)
def test_a_slip_in_a_recipe_is_told_with_its_file(change, told):
    good = {"importer": "pairs", "files": {"records": {"path": "a.jsonl"}}, "task": "ir"}
    parse_recipe("mine", good, "mine.yaml")
    with pytest.raises(UserError) as error:
        parse_recipe("mine", good | change, "mine.yaml")
    assert f"mine.yaml: {told}" in str(error.value)


def test_an_unknown_recipe_or_importer_is_told_with_the_nearest():
    with pytest.raises(UserError, match="no recipe 't2rankng'; did you mean t2ranking"):
        load_recipe("t2rankng")
    with pytest.raises(UserError, match=f"no importer 'x'; there are {', '.join(IMPORTERS)}"):
        load_importer("x")
