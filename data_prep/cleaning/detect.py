"""The language of many texts at once: by script, or with lingua where languages share one."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from codiemb.errors import UserError
from data_prep.languages import SCRIPT_OF, agrees, language_of

DETECTORS = ("script", "lingua")
_SHARED_SCRIPTS = frozenset(SCRIPT_OF.values())


def by_script(texts: Sequence[str], given: Sequence[str | None]) -> list[str | None]:
    """What is given stays where the text is in a script of that language; else the script decides."""
    scripts = map(language_of, texts)
    return [
        language if agrees(language, script) else script
        for language, script in zip(given, scripts, strict=True)
    ]


def by_lingua(texts: Sequence[str], given: Sequence[str | None]) -> list[str | None]:
    """What lingua says, where several languages share a script; else by script. `given` is not read."""
    found = [language_of(text) for text in texts]
    unclear = [index for index, script in enumerate(found) if script in _SHARED_SCRIPTS]
    if unclear:
        answers = lingua_detector().detect_languages_in_parallel_of([texts[index] for index in unclear])
        for index, answer in zip(unclear, answers, strict=True):
            if answer is not None:
                found[index] = answer.iso_code_639_1.name.lower()
    return found


@cache
def lingua_detector() -> Any:  # noqa: ANN401  of a package that is not always there
    """lingua's detector of all its languages.

    Raises:
        UserError: lingua is not installed.
    """
    try:
        from lingua import LanguageDetectorBuilder
    except ImportError:
        raise UserError(
            "language_detector=lingua: the package is not installed; pip install lingua-language-detector"
        ) from None
    return LanguageDetectorBuilder.from_all_languages().build()
