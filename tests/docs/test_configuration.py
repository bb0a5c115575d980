"""docs/configuration.md is what the schema, the docstrings and conf say today, and leaves no key out."""

from dataclasses import dataclass, field, fields

import pytest

from codiemb.config.schema import EvalConfig, TrainConfig
from codiemb.losses import InfoNCE
from codiemb.training import schedule
from docs.generator import files, others, page, targets
from docs.generator.keys import entries, of_callable, of_dataclass, plain, type_name
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "configuration.md"
KEYS = [key for section in page.sections() for _, keys in section.tables for key in keys]


def test_the_page_is_up_to_date():
    stale = f"docs/configuration.md is stale: write it again with `{page.COMMAND}`"
    assert PAGE.read_text("utf-8") == page.page(), stale


def test_every_key_has_a_type_and_a_meaning():
    missing = [key.name for key in KEYS if not (key.type and key.meaning)]
    assert missing == [], "say it in the docstring (Attributes, Args), or in docs/generator/others.py"


def test_every_part_of_the_schema_is_on_the_page():
    shown = {key.name.partition(".")[0] for key in KEYS}
    assert {field.name for schema in (TrainConfig, EvalConfig) for field in fields(schema)} - shown == set()


def test_every_file_of_conf_is_on_the_page():
    listed = {
        f"{group}/{file.choice}"
        for section in page.sections()
        for group in section.groups
        for file in files.files_of(group)
    }
    on_disk = {str(path.relative_to(files.CONF).with_suffix("")) for path in files.CONF.rglob("*/**/*.yaml")}
    parts_of_debug = {name for name in on_disk if name.startswith("debug/") and name.count("/") > 1}
    assert listed == on_disk - parts_of_debug


def test_no_meaning_is_left_of_a_key_that_no_file_sets_any_more():
    used = {"trainer": {key.name for key in KEYS if key.name.startswith("trainer.")}}
    for group in ("optimizer", "strategy", "callbacks", "logger"):
        for target in targets.targets_of(group):
            used[target.name] = {f"{target.path}.{key}" for key in target.values}
    for group in ("hydra/launcher", "hydra/sweeper"):
        for file in files.files_of(group):
            used[f"{group}/{file.choice}"] = {f".{key}" for key, _ in targets.leaves(file.values)}
    stale = [
        f"{name}: {key}"
        for name, meanings in others.OTHERS.items()
        for key in meanings
        if not any(each.endswith(f".{key}") for each in used.get(name, ()))
    ]
    assert stale == []


def test_a_file_of_conf_that_does_not_say_what_it_is_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    mute = tmp_path / "mute.yaml"
    mute.write_text("# @package _global_\nseed: 1\n", "utf-8")
    with pytest.raises(ValueError, match=r"mute\.yaml must begin with a comment"):
        files.read(mute, tmp_path)


# How docstrings, annotations and values are read


def test_entries_of_a_docstring_go_over_lines_and_name_several_keys():
    docstring = """A thing.

    Args:
        a: one line.
        b, c: two
            lines.

    Raises:
        UserError: not an entry.
    """
    assert entries(docstring, "Args") == {"a": "one line.", "b": "two lines.", "c": "two lines."}


def test_a_key_without_an_entry_has_no_meaning():
    @dataclass
    class Inner:
        """Nothing about it."""

        deep: int | None = None

    @dataclass
    class Outer:
        """Half of it.

        Attributes:
            told: what it is.
        """

        told: float = 4e-5
        untold: list[str] = field(default_factory=list)
        inner: Inner = field(default_factory=Inner)

    assert [tuple(key) for key in of_dataclass(Outer, "x.")] == [
        ("x.told", "float", "`4e-5`", "what it is."),
        ("x.untold", "list of str", "`[]`", ""),
        ("x.inner.deep", "int or null", "`null`", ""),
    ]


def test_arguments_are_those_of_the_constructor_but_the_given_ones():
    names = [key.name for key in of_callable(InfoNCE, "")]
    assert names[:2] == ["temperature", "other_positives"]
    keys = of_callable(schedule.learning_rate_schedule, "", given=("optimizer", "num_steps"))
    assert [key.name for key in keys] == ["name", "warmup_ratio"]


@pytest.mark.parametrize(
    ("hint", "name"),
    [(float | int | None, "float or null"), (list[int], "list of int"), (dict[str, float], "mapping")],
    ids=str,
)
def test_types_are_named_as_in_yaml(hint, name):
    assert type_name(hint) == name


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (2.5e-4, "0.00025"),
        (4e-5, "4e-5"),
        ("csv", "csv"),
        ("", '""'),
        ("a: b", '"a: b"'),
        ("${model.max_tokens}", "${model.max_tokens}"),
        ([0.9, 0.999], "[0.9, 0.999]"),
        ({"r": 16}, "{r: 16}"),
    ],
)
def test_values_are_written_as_in_yaml(value, shown):
    assert plain(value) == shown
