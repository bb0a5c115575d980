"""CITATION.cff, the pre-commit hooks and `make help` say what the project says elsewhere."""

import re
import subprocess
import tomllib

import yaml

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_the_citation_has_the_version_and_license_of_the_package_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert [paper["url"] for paper in citation["references"]] == ["https://arxiv.org/abs/2508.11442"]


def test_the_hooks_are_the_tools_of_make_lint_and_need_no_network():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    linted = re.findall(r"^\t\$\(BIN\)/((?:ruff|mypy)\S*(?: [a-z]+)?)", MAKEFILE, re.MULTILINE)
    assert {hook["name"] for hook in hooks} == set(linted)
    assert all(hook["entry"].startswith(f".venv/bin/{hook['name']}") for hook in hooks)


def test_make_help_lists_every_target_with_what_it_does():
    command = ["make", "--no-print-directory", "help"]  # a make that is called by a make tells where it is
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)
    assert targets
    lines = {line.split()[1]: line.split()[2:] for line in listed.splitlines()}
    assert lines.keys() == set(targets[1].split())
    assert all(lines.values())


def test_make_alone_still_trains():
    assert re.search(r"^\.DEFAULT_GOAL := train$", MAKEFILE, re.MULTILINE)
