"""The folder of random networks, and the zoo that other folders share."""

import sys
from pathlib import Path

from small_zoo import zoo

sys.path.insert(0, str(Path(__file__).parent))

__all__ = ["zoo"]
