"""The page of the data sets that fetch knows: what their recipes say, and what has none and why."""

from collections.abc import Iterator
from pathlib import Path

from data_prep.fetch.recipe import RECIPES, Recipe, load_recipe, names

COMMAND = "python -m docs.generator"
PROSE = Path(__file__).with_name("recipes_prose.md")


def page() -> str:
    """All of docs/recipes.md."""
    rows = [f"| {' | '.join(cells)} |" for cells in _rows()]
    head = ["| recipe | what | task, stage | text | licence | from |", "|---|---|---|---|---|---|"]
    prose = PROSE.read_text("utf-8").partition("-->\n\n")[2]
    return prose.replace("COMMAND", COMMAND).replace("TABLE", "\n".join([*head, *rows]))


def _rows() -> Iterator[tuple[str, ...]]:
    for name in names():
        recipe = load_recipe(name)
        kind = f"{recipe.task}, {recipe.stage.replace('_', ' ')}"
        yield f"`{name}`", _said(name), kind, recipe.language, recipe.licence, _place(recipe)


def _said(name: str) -> str:
    """The comment at the head of a recipe."""
    lines = (RECIPES / f"{name}.yaml").read_text("utf-8").split("\n")
    comment = [line.removeprefix("#").strip() for line in lines[: lines.index(next(filter(_is_key, lines)))]]
    return " ".join(comment).removesuffix(".")


def _is_key(line: str) -> bool:
    return not line.startswith("#")


def _place(recipe: Recipe) -> str:
    at = recipe.revision[:7] if len(recipe.revision) == 40 else "not pinned"
    if not recipe.repository.startswith("https://"):
        return f"`{recipe.repository}`, {at}"
    name = recipe.repository.removeprefix("https://github.com/")
    return f"GitHub `{name}`, {at}" if name != recipe.repository else f"<{recipe.repository}>"
