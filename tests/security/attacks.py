"""What attacks are made of, and how a command ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a command ended, what it said on standard error, and what it printed."""

    code: object
    said: str
    printed: str = ""

    def refused(self, *words: str) -> bool:
        """Say whether it is what a user can mend, in one paragraph that holds these words."""
        (paragraph,) = (line for line in self.said.splitlines() if line.startswith("error:"))
        return self.code == 2 and all(word in paragraph for word in words)


Command = Callable[..., Ended]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)
