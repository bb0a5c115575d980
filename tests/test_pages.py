"""README and docs hold together: links lead somewhere, both languages say the same, pictures are fresh."""

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

from codiemb.data import read_records
from tests.support.pages import CHINESE, PAGES, anchors, blocks, commands, links, prose, read
from tests.support.paths import ROOT


@pytest.mark.parametrize("page", [*PAGES, CHINESE])
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_links_to_every_page() -> None:
    assert {link.partition("#")[0] for link in links("README.md")} >= set(PAGES) - {"README.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_a_page_opens_with_what_it_answers(page: str) -> None:
    title, opening, *_ = [part for part in prose(page).split("\n\n") if part.strip()]
    assert title.startswith("# ")
    assert not opening.startswith(("#", "-", "|", "[", "!"))
    assert len(re.findall(r"[.?!*](\s|$)", opening)) >= 1


@pytest.mark.parametrize("language", ["bash", "console", "python", "text"])
def test_the_chinese_readme_has_the_same_blocks_in_the_same_order(language: str) -> None:
    if language in ("bash", "console"):  # comments are translated
        assert list(commands(language, [CHINESE])) == list(commands(language, ["README.md"]))
    else:
        ours, theirs = ([b.text for b in blocks(language, [page])] for page in (CHINESE, "README.md"))
        assert ours == theirs


def test_the_chinese_readme_links_to_the_same_pages() -> None:
    ours, theirs = (
        [link for link in links(page) if not link.startswith("README")] for page in (CHINESE, "README.md")
    )
    assert ours == theirs


def test_the_readme_fits_two_screens() -> None:
    assert len(read("README.md").splitlines()) <= 125


def test_every_json_line_is_a_record(tmp_path: Path) -> None:
    lines = [line for block in blocks("json") for line in block.text.splitlines()]
    file = tmp_path / "records.jsonl"
    file.write_text("\n".join(lines), "utf-8")
    assert len(list(read_records(file, score_range=(0.0, 5.0)))) == len(lines) >= 4


def test_the_picture_of_the_method_is_what_its_script_draws() -> None:
    drawn = runpy.run_path(str(ROOT / "docs/draw_method.py"))["picture"]()
    ElementTree.fromstring(drawn)
    assert drawn == (ROOT / "docs/method.svg").read_text("utf-8"), "run `python docs/draw_method.py`"
