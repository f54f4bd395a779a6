"""From a run file to a zoo: models without weights are filled last."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from one_model import ARCH, net_of, same
from safetensors.torch import save_file

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.zoo import load_zoo
from zoo_search.zoo.load import load_model


def test_null_weights_come_from_the_most_similar_model(tmp_path: Path) -> None:
    save_file(net_of().state_dict(), tmp_path / "w.safetensors")
    torch.manual_seed(3)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    zoo = {
        "empty": {"arch": ARCH, "weights": None},
        "vit": {"arch": "test_vit", "weights": str(tmp_path / "vit.safetensors")},
        "net": {"arch": ARCH, "weights": str(tmp_path / "w.safetensors")},
    }
    loaded = load_zoo({"name": "t", "dataset": "digits", "zoo": zoo})
    assert list(loaded) == ["empty", "vit", "net"]
    assert same(loaded["empty"].module, loaded["net"].module)  # same architecture: an exact copy
    assert loaded["empty"].source.startswith("dpiat from net (similarity 1.000)")
    with pytest.raises(UserError, match=r"zoo\.empty\.weights is null.*no model of the zoo"):
        load_zoo({"name": "t", "dataset": "digits", "zoo": {"empty": zoo["empty"]}})


def test_a_plain_architecture_is_told_of_by_its_own_place() -> None:
    job = {
        "name": "t",
        "dataset": "digits",
        "zoo": {"a": {"arch": ARCH}},
        "finetune": {"plain": {"b": {"arch": ARCH, "weights": "nowhere.pth"}}},
    }
    config = load_job(job)
    with pytest.raises(UserError, match=r"^finetune\.plain\.b\.weights: there is no file 'nowhe"):
        load_model(config.finetune.plain["b"], "b", config, {}, "plain")
    entry = config.finetune.plain["b"].model_copy(update={"arch": "resnett18"})
    with pytest.raises(
        UserError, match=r"^finetune\.plain\.b\.arch: .* no architecture 'resnett18'"
    ):
        load_model(entry, "b", config, {}, "plain")
