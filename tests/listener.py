"""What is printed, as it is printed."""

from __future__ import annotations

import io
import threading


class Listener(io.StringIO):
    """Wakes the test when a number of lines is there."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.missing, self.full = lines, threading.Event()

    def write(self, text: str) -> int:
        self.missing -= text.count("\n")
        if self.missing <= 0:
            self.full.set()
        return super().write(text)
