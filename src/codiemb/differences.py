"""What differs between two records of JSON values: key by key, with both values."""

import json
from collections.abc import Mapping
from typing import Any

NOTHING = "nothing"


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Dotted keys whose values differ, with both as JSON; "nothing" where a record has no such key."""
    old, new = _flat(there), _flat(here)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return {key: (old.get(key, NOTHING), new.get(key, NOTHING)) for key in keys}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(inner, ensure_ascii=False)
    return flat
