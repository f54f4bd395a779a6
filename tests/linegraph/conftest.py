import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def photographs() -> Tensor:
    """Five real photographs ``[5, 3, 256, 256]``, normalised: three and two mirrored."""
    from skimage import data

    pictures = [data.astronaut(), data.chelsea(), data.coffee()]
    maps = [torch.from_numpy(p.copy()).permute(2, 0, 1).float() / 255 for p in pictures]
    batch = torch.stack(
        [F.interpolate(m[None], (256, 256), mode="bilinear", antialias=True)[0] for m in maps]
    )
    batch = (batch - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / 0.225
    return torch.cat([batch, batch[:2].flip(-1)])
