"""The prompt files of synthesise: ours, a user's own, and wrong ones."""

from typing import Any

import pytest

from codiemb.errors import UserError
from data_prep.layout import QRELS, QUERIES
from data_prep.manifest import read_manifest
from data_prep.synthesis.prompt import PROMPTS, load_prompt, names
from tests.support.synthesis import PASSAGES, answer, prompt_of, rows, synthesise

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of connections that a test cuts


OWN = """about: my own
reads: document
makes: query
ask:
  - name: only
    prompt: |
      What would you ask to find this? {passage}
      {"query": "..."}
    answer: {query: {at_most: 50}}
"""


def test_a_prompt_file_of_ones_own_is_a_recipe(server, source, tmp_path):
    (tmp_path / "mine.yaml").write_text(OWN)
    out = synthesise(server, source, tmp_path / "out", str(tmp_path / "mine.yaml"))
    assert {row["origin"] for row in rows(out / QRELS)[3:]} == {"synthesise mine"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("{passage}", "{pasage}"),
            r"mine.yaml: ask.only.prompt: nothing fills \{pasage\}; did you mean passage",
        ),
        (("query: {at", "text: {at"), "query needs a field query of kind text"),
        (("reads: document", "reads: nothing"), "makes: query reads document or documents, not nothing"),
        (("about:", "abuot:"), "abuot"),
        (("at_most: 50", "at_most: 50, language: xx"), "no language 'xx'"),
    ],
)
def test_a_wrong_prompt_file_is_told_before_any_request(server, source, tmp_path, change, said):
    (tmp_path / "mine.yaml").write_text(OWN.replace(*change))
    with pytest.raises(UserError, match=said):
        synthesise(server, source, tmp_path / "out", str(tmp_path / "mine.yaml"))
    assert not server.bodies


@pytest.mark.parametrize(
    ("recipe", "more", "said"),
    [
        ("querry", [], "no recipe 'querry'; did you mean query"),
        ("query", ["--endpoint", "localhost:8000"], "no address with http"),
        ("query", ["--max-cost", "1"], "needs prices"),
        ("query", ["--name", "a/b"], "only letters, digits"),
        ("query", ["--count", "0"], "count=0 must be at least 1"),
        ("query", ["--key-variable", "NOT_SET"], "NOT_SET: this environment variable is not set"),
        ("tasks", ["--count", "2"], "reads nothing: leave --in out"),
    ],
)
def test_a_wrong_option_is_told_before_any_request(server, source, tmp_path, recipe, more, said):
    with pytest.raises(UserError, match=said):
        synthesise(server, source, tmp_path / "out", recipe, *more)
    assert not server.bodies
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_reads_needs_a_folder_and_one_that_does_not_a_count(server, tmp_path):
    with pytest.raises(UserError, match=r"query.en reads a source \(document\): --in DIR"):
        synthesise(server, None, tmp_path / "out", "query")
    with pytest.raises(UserError, match="say how many examples: --count"):
        synthesise(server, None, tmp_path / "out", "bitext")


def test_every_recipe_is_there_in_english_and_chinese_and_says_where_it_is_from():
    assert {
        "query",
        "multi_hop",
        "paraphrases",
        "hard_negatives",
        "graded_list",
        "graded_pairs",
        "tasks",
        "sts",
        "bitext",
    } == set(names())
    for name in names():
        english, chinese = (load_prompt(PROMPTS / f"{name}.{code}.yaml") for code in ("en", "zh"))
        assert (english.reads, english.makes) == (chinese.reads, chinese.makes)
        assert [q.answer.keys() for q in english.ask] == [q.answer.keys() for q in chinese.ask]
        assert english.choices.keys() == chinese.choices.keys()
        for code in ("en", "zh"):
            assert "# - " in (PROMPTS / f"{name}.{code}.yaml").read_text("utf-8").partition("about:")[0]


def test_the_prompts_of_a_recipe_are_there_in_chinese_and_want_chinese_answers(server, source, tmp_path):
    def chinese(body: dict[str, Any]) -> str:
        if '"question_type"' in prompt_of(body):
            return answer(body)
        return '{"query": "鲸鱼有多长"}' if "whales" in prompt_of(body) else answer(body)

    server.answer = chinese
    out = synthesise(server, source, tmp_path / "out", "query", "--prompt-language", "zh")
    assert all("只输出一个 JSON 对象" in prompt_of(body) for body in server.bodies)
    assert [(row["text"], row["lang"]) for row in rows(out / QUERIES)[2:]] == [("鲸鱼有多长", "zh")]
    assert read_manifest(out)["rejected"] == {"language": len(PASSAGES) - 1}
