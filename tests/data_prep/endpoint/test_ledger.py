"""The ledger: what is in it is there for good, and a half last line does no harm."""

import json

import pytest

from codiemb.errors import UserError
from data_prep.endpoint.ledger import Ledger
from data_prep.endpoint.request import Answer, Request, key_of

KEYS = [key_of({"text": number}) for number in range(3)]
ANSWERS = [Answer("first", None, 3, 2), Answer("第二\u2028", None, 4, 1), Answer("", "refused: no", 0, 0)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a/ledger.jsonl"
    with Ledger.opened(path, "m") as ledger:
        ledger.append(zip(KEYS, ANSWERS, ["one", "two", "three"], strict=True))
    return path


def test_what_was_appended_is_read_back(path):
    with Ledger.opened(path, "m") as ledger:
        assert [ledger.get(key) for key in KEYS] == ANSWERS
        assert ledger.get(key_of({"text": 9})) is None
        assert (len(ledger), ledger.asked, ledger.answered) == (3, 7, 3)


def test_a_ledger_cut_off_at_any_byte_keeps_its_whole_lines_and_goes_on(path):
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for size in sorted({*range(0, len(whole), 7), *ends[:-1], *(end - 1 for end in ends)}):
        path.write_bytes(whole[:size])
        with Ledger.opened(path, "m") as ledger:
            there = sum(end <= size for end in ends) - 1
            assert len(ledger) == max(there, 0)
            ledger.append(
                zip(
                    KEYS[max(there, 0) :],
                    ANSWERS[max(there, 0) :],
                    ["one", "two", "three"][max(there, 0) :],
                    strict=True,
                )
            )
        assert path.read_bytes() == whole


def test_zeros_at_the_end_as_a_lost_power_leaves_them_are_cut_off(path, capsys):
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100)
    with Ledger.opened(path, "m") as ledger:
        assert len(ledger) == 3
    assert path.read_bytes() == whole
    assert "half written" in capsys.readouterr().err


def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_cut_off(path):
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:-5]
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"ledger.jsonl:3: damaged"), Ledger.opened(path, "m"):
        pass
    assert path.read_bytes() == before


def test_another_models_ledger_a_second_writer_and_a_folder_that_cannot_be_written_are_told(path, tmp_path):
    with pytest.raises(UserError, match="of the model 'm', and 'other'"), Ledger.opened(path, "other"):
        pass
    with (
        Ledger.opened(path, "m"),
        pytest.raises(UserError, match="written by another process"),
        Ledger.opened(path, "m"),
    ):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), Ledger.opened(tmp_path / "file/l.jsonl", "m"):
        pass
    path.write_text(json.dumps({"key": "a", "tokens": [1, 1], "text": ""}) + "\n")
    with pytest.raises(UserError, match="no ledger of this version"), Ledger.opened(path, "m"):
        pass


def test_a_key_depends_on_all_that_is_sent_and_on_nothing_else():
    one = Request([{"role": "user", "content": "a"}], seed=1, about="x")
    sampling = {"temperature": 0.5}
    key = key_of(one.body("m", sampling))
    assert key == key_of(Request([{"content": "a", "role": "user"}], seed=1, about="y").body("m", sampling))
    others = [
        one.body("n", sampling),
        one.body("m", {"temperature": 0.6}),
        one.body("m", sampling, "json_object"),
        Request([{"role": "user", "content": "b"}], seed=1).body("m", sampling),
        Request([{"role": "system", "content": "a"}], seed=1).body("m", sampling),
        Request([{"role": "user", "content": "a"}], seed=2).body("m", sampling),
    ]
    assert len({key, *map(key_of, others)}) == 1 + len(others)
