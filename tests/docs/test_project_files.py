"""CITATION.cff, the pre-commit hooks and `make help` say what the project says elsewhere."""

import re
import subprocess
import sys
import tomllib

import yaml

from tests.support.paths import ROOT
from tests.test_laws import ALL_CODE, imports

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


def test_every_package_that_the_code_imports_is_declared():
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(w for extra in project["optional-dependencies"].values() for w in extra),
    ]
    declared = {canonical(re.split(r"[<>=!~;\[ ]", entry)[0]) for entry in wanted}
    packages = {
        name.partition(".")[0]
        for module, path in ALL_CODE.items()
        for name in imports(path.read_text("utf-8"), module)
    }
    packages -= {*sys.stdlib_module_names, "codiemb", "data_prep"}
    assert {"torch", "yaml"} <= packages  # the test can see them
    homes = {
        "hydra": "hydra-core",
        "lightning_fabric": "pytorch-lightning",
        "lingua": "lingua-language-detector",
        "yaml": "pyyaml",
    }
    assert {name for name in packages if canonical(homes.get(name, name)) not in declared} == set()


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


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
