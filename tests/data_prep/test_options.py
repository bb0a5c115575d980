"""Options of a step: the same from a file and from the command line, typed, and no unknown one."""

import re

import pytest

from codiemb.errors import UserError
from data_prep.__main__ import main
from data_prep.options import as_values, build
from data_prep.runner import STEPS
from data_prep.steps.filter import Parameters
from tests.support.sources import make_source


def test_strings_of_a_shell_are_read_as_the_type_of_the_option():
    from_shell = build(Parameters, {"max_rank": "3", "min_score": "0.5", "languages": "zh, en"}, "shell")
    assert from_shell == build(
        Parameters, {"max_rank": 3, "min_score": 0.5, "languages": ["zh", "en"]}, "file"
    )
    assert build(Parameters, {"max_rank": "null"}, "shell") == Parameters()
    assert build(Parameters, as_values(from_shell), "manifest") == from_shell


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_rnk": 3}, r"unknown option 'max_rnk'; did you mean max_rank\?"),
        ({"max_rank": "many"}, "max_rank='many'.*integer"),
        ({"languages": 3}, "languages=3.*list"),
    ],
)
def test_a_wrong_option_is_one_error_that_says_where(values, words):
    with pytest.raises(UserError, match=f"there: {words}"):
        build(Parameters, values, "there")


def test_the_command_line_wins_over_the_file_and_a_files_errors_name_it(tmp_path, capsys):
    source = make_source(
        tmp_path / "source", {"q": "a"}, {"d": "b"}, [("q", "d")], {"x": [("q", "d", 5, 1.0)]}
    )
    config = tmp_path / "filter.yaml"
    config.write_text("max_rank: 1")
    command = ["filter", "--in", str(source), "--out", str(tmp_path / "out"), "--config", str(config)]
    main(command)
    assert "dropped: rank 1" in capsys.readouterr().out
    main([*command, "--max-rank", "5"])
    assert "1 of 1 kept\n" in capsys.readouterr().out
    config.write_text("max_rank: one")
    with pytest.raises(UserError, match=r"filter\.yaml: max_rank='one'"):
        main(command)
    config.write_text("max_rank: [")
    with pytest.raises(UserError, match=r"filter\.yaml is not YAML"):
        main(command)


def test_the_help_names_every_step(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for name in (*STEPS, "run", "minilm"):
        assert re.search(rf"^  {name} +[A-Z].+[.;,:]", shown, flags=re.MULTILINE), name


def test_every_step_has_help_that_names_its_options(capsys):
    for name in STEPS:
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: python -m data_prep {name}")
        assert "--out DIR" in shown
