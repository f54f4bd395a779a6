"""What a model of the zoo is known by."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from zoo_search.zoo import load_zoo


def test_the_identity_of_a_model_is_more_than_its_weights(tmp_path: Path) -> None:
    """The number of heads and the normalisation change what is computed, and no tensor."""
    torch.manual_seed(3)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    entry = {"arch": "test_vit", "weights": str(tmp_path / "vit.safetensors")}
    zoo = {
        "one": entry,
        "same": entry,
        "heads": entry | {"kwargs": {"num_heads": 4}},
        "mean": entry | {"mean": [0.1, 0.2, 0.3]},
    }
    loaded = load_zoo({"name": "t", "dataset": "digits", "zoo": zoo})
    assert len({model.weights_hash for model in loaded.values()}) == 1
    assert loaded["one"].identity == loaded["same"].identity
    assert len({model.identity for model in loaded.values()}) == 3
