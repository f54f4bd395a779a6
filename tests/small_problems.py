"""Problems of partition that a brute force solves."""

from __future__ import annotations

SMALL = [
    # depths, k, eps, sizes
    ([4, 5, 3], 2, 1.0, None),
    ([5, 6], 3, 0.6, None),
    ([5, 4, 6], 3, 0.9, None),
    ([4, 6], 4, 1.5, None),
    ([6, 3], 3, 1.4, [[3, 1, 4, 1, 5, 2], [2, 7, 1]]),
    ([7], 3, 0.5, None),
    ([3, 5, 2, 4], 1, 0.5, None),
]
