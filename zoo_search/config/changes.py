"""Single values that are laid over a run file: ``partition.k=6``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

from zoo_search.config.paths import typed
from zoo_search.core.errors import UserError
from zoo_search.core.yaml_text import read_yaml

OPTION = "--set"


def changed(data: Mapping[str, object], changes: Sequence[str]) -> dict[str, object]:
    """Return what a run file holds, with other values at some places.

    Args:
        data: What it holds.
        changes: ``PLACE=VALUE`` each: keys with dots between them, and the value as YAML has it, as
            in ``finetune.protocol=[full]``. Sections that are not there are made; where a name
            stands for a section, as in ``dataset: digits``, it stays the section's name. Paths
            count from the working directory.

    Raises:
        UserError: If one is no such thing, or leads into what is no section.
    """
    found = deepcopy(dict(data))
    for change in changes:
        place, equals, text = change.partition("=")
        if not equals or not all(place.split(".")):
            raise UserError(
                f"{OPTION} {change}: give the place of a value in the run file and the value, as "
                f"in {OPTION} partition.k=6 or {OPTION} 'finetune.protocol=[full]'."
            )
        _, value = read_yaml(text, f"{OPTION} {place}")
        _put(found, place.split("."), typed(value), change)
    return found


def _put(section: dict[str, object], keys: list[str], value: object, change: str) -> None:
    """Put a value at a place; of names with dots in them the longest that is there is taken."""
    for length in range(len(keys), 0, -1):
        key, rest = ".".join(keys[:length]), keys[length:]
        if key in section or length == 1:
            break
    if not rest:
        section[key] = value
        return
    inner = section.get(key)
    if inner is None:
        inner = {}
    elif isinstance(inner, str):
        inner = {"name": inner}
    if not isinstance(inner, dict):
        raise UserError(
            f"{OPTION} {change}: '{key}' is {inner!r} in the run file, and no section that holds "
            f"'{'.'.join(rest)}'. Give all of it, as in {OPTION} {key}=VALUE."
        )
    section[key] = inner
    _put(inner, rest, value, change)
