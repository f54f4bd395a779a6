"""JSON that people bring: what is no JSON is one error, however it is none."""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Return what a text of JSON holds.

    Raises:
        ValueError: If it is no JSON, no UTF-8, or nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
