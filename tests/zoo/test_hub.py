"""Weights from the hubs, over a hub of the tests' own and without a network."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from one_model import ARCH, HUB_REPO, load_one, net_of, same
from safetensors.torch import save

from zoo_search.core.errors import UserError
from zoo_search.zoo import load_zoo
from zoo_search.zoo.hub import timm_weights_problem


def test_timm_weights_from_the_hub(fake_hub: Any) -> None:
    net = net_of()
    fake_hub.add(HUB_REPO, "model.safetensors", save(net.state_dict()))
    model = load_one(weights="timm")
    assert same(model.module, net)
    assert model.source == f"timm's {HUB_REPO}"
    assert model.license == "apache-2.0"
    assert model.transform.mean == (0.5, 0.5, 0.5)  # timm's own configuration of these weights
    asked = len(fake_hub.asked)
    assert asked >= 1
    assert same(load_one(weights="timm").module, net)
    assert len(fake_hub.asked) == asked  # from the cache, without a question


def test_hf_hub_with_its_own_preprocessing(fake_hub: Any) -> None:
    net = net_of()
    torch.save(net.state_dict(), fake_hub.root / "w.bin")
    fake_hub.add("me/mine", "pytorch_model.bin", (fake_hub.root / "w.bin").read_bytes())
    config = {"architecture": ARCH, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "license": "mit"}}
    fake_hub.add("me/mine", "config.json", json.dumps(config).encode())
    model = load_one(weights="hf-hub:me/mine")
    assert same(model.module, net)
    assert model.transform.mean == (0.1, 0.2, 0.3)
    assert model.license == "mit"
    assert same(load_one(weights="hf-hub:me/mine@main").module, net)


def test_hub_without_the_repository_or_the_file(fake_hub: Any) -> None:
    with pytest.raises(
        UserError, match=r"zoo\.a\.weights.*has no repository or revision 'me/none'"
    ):
        load_one(weights="hf-hub:me/none")
    fake_hub.add("me/empty", "README.md", b"nothing")
    with pytest.raises(UserError, match=r"'me/empty'.*none of the files model\.safetensors"):
        load_one(weights="hf-hub:me/empty")
    with pytest.raises(UserError, match="write 'hf-hub:ORG/NAME'"):
        load_one(weights="hf-hub:mine")


def test_whether_weights_can_be_had_is_known_without_fetching_them(fake_hub: Any) -> None:
    net = net_of()
    assert timm_weights_problem(ARCH) is None  # the hub answers
    fake_hub.add(HUB_REPO, "model.safetensors", save(net.state_dict()))
    load_one(weights="timm")
    asked = len(fake_hub.asked)
    assert timm_weights_problem(ARCH) is None
    assert len(fake_hub.asked) == asked  # they are in the cache
    assert timm_weights_problem("lcnet_035") == "timm has none"


@pytest.mark.parametrize("weights", ["timm", "hf-hub:me/mine"])
def test_no_network(empty_cache: Path, monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        start = time.monotonic()
        with pytest.raises(UserError) as caught:
            load_one(weights=weights)
        assert str(timm_weights_problem(ARCH)).startswith(f"no answer from {endpoint}: ")
    assert time.monotonic() - start < 8
    text = str(caught.value)
    assert f"the Hugging Face hub ({endpoint}) cannot be reached" in text
    assert (HUB_REPO if weights == "timm" else "me/mine") in text
    assert "write the path of that file as zoo.a.weights" in text
    assert "\n" not in text


def test_timm_has_no_weights(empty_cache: Path) -> None:
    zoo = {"a": {"arch": "lcnet_035"}}
    with pytest.raises(UserError, match="timm has no weights for 'lcnet_035'"):
        load_zoo({"name": "t", "dataset": "digits", "zoo": zoo})
