"""Near names for an error: what a typo may have meant."""

import difflib
from collections.abc import Iterable

_SHOWN = 50


def near(name: str, known: Iterable[str], *, all_of_them: bool = True) -> str:
    """What may have been meant, as the end of an error; where nothing is near, all names if few."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=3)
    lower = {each.lower(): each for each in known}
    close = close or [lower[each] for each in difflib.get_close_matches(name.lower(), list(lower), n=3)]
    said = f"did you mean {' or '.join(close)}?" if close else ""
    if known and (all_of_them or (not close and len(known) <= _SHOWN)):
        said += f"{' There' if said else 'there'} are: {', '.join(known)}"
    return said
