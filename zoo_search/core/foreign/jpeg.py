"""How often a JPEG goes over its pixels."""

from __future__ import annotations

import re

MOST_SCANS = 100
"""Of a progressive JPEG; those that encoders write have about ten, and each takes 12 bytes."""

_SCAN, _END = 0xDA, 0xD9
# Behind a scan: what is no stuffed byte, no restart and no filling.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)


def scans(data: bytes) -> int:
    """Return the scans of the first image in a JPEG's bytes; :data:`MOST_SCANS` + 1 are many.

    Each costs the time of one pass over all pixels, however short it is (ITU-T T.81, section B).
    """
    found, at = 0, 2
    while found <= MOST_SCANS:
        marker = _MARKER.search(data, at)
        if marker is None or marker[1][0] == _END:
            break
        found += marker[1][0] == _SCAN
        # The length counts its own two bytes, not the marker's.
        at = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2], "big"))
    return found
