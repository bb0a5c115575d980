"""Overrides that README and docs name in their prose and tables pass the checks of a run."""

import re
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from codiemb.config.preflight import preflight
from codiemb.config.typed import typed_train
from codiemb.encoder.check import check_trainable
from codiemb.errors import UserError
from tests.support.pages import PAGES, prose

# generated pages and those that quote other programs have tests of their own
_PROSE = [page for page in PAGES if "configuration" not in page and "coming_from" not in page]
_OVERRIDE = re.compile(r"[+~]?[a-z_]+(\.\w+)*=\S+")
_EVALUATED = ("youtu_api", "youtu_embedding", "mteb")
_PLACEHOLDER = re.compile(r"\$'|[A-Z<]{2,}|<|=N$|\||\.\.\.|\bmine\b|\bmy_|is_causal|hydra\.")
_CONTEXT = {  # what must hold for a key to exist
    "fuse": ("stage=fuse", "fuse.checkpoints=[a,b,c]", "fuse.base=d"),
    "stage=fuse": ("fuse.checkpoints=[a,b,c]", "fuse.base=d"),
    "model.native": ("model=youtu_embedding",),
    "sampler.weights": ("sampler=weights",),
    "losses.ir.distill_kl": ("losses=distill",),
}


def overrides_in_prose() -> list[str]:
    """Code in a line that is a list of overrides and nothing else, without those that name no real value."""
    found = []
    for page in _PROSE:
        for code in re.findall(r"`([^`\n]+)`", prose(page)):
            code = code.strip("'")  # quoted for the shell
            parts = [code] if "{" in code else code.split()
            is_override = "{" in code or all(_OVERRIDE.fullmatch(part) for part in parts)
            if is_override and "=" in code and not _PLACEHOLDER.search(code):
                found += parts
    return list(dict.fromkeys(found))


def test_the_pages_name_overrides() -> None:
    assert len(overrides_in_prose()) > 30


def is_of_evaluation(override: str) -> bool:
    """Of a model that can be scored and not trained."""
    native = override.startswith("model.native.") and "null" not in override
    return native or override in {f"model={name}" for name in _EVALUATED}


@pytest.mark.parametrize("override", overrides_in_prose())
def test_the_override_passes_the_checks(override: str, composed: Callable[..., DictConfig]) -> None:
    context = [
        value
        for key, values in _CONTEXT.items()
        for value in values
        if override.startswith(f"{key}.") or override == key
    ]
    if is_of_evaluation(override):
        spec = typed_train(composed(*context, override)).model
        with pytest.raises(UserError, match="can be evaluated, not trained"):
            check_trainable(spec)
        return
    own = override.startswith(("experiment=", "data.score_range="))
    context += ["data.files=[mine.jsonl]"] if own else []  # the user's
    context += _CONTEXT["sampler.weights"] if override.startswith("sampler.weights=") else ()
    preflight(typed_train(composed(*context, override)))
