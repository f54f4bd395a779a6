"""What a transfer tells of itself."""

from __future__ import annotations

import itertools
import json

import timm
import torch
from random_networks import randomise

from zoo_search import dpiat


def test_report_adds_up() -> None:
    source, target = randomise(timm.create_model("lcnet_050"), 1), timm.create_model("resnet10t")
    with torch.no_grad():
        for tensor in itertools.chain(target.parameters(), target.buffers()):
            tensor.zero_()
    report = dpiat.transfer(source, target)
    values = [t for t in target.state_dict().values() if t.is_floating_point()]
    assert report.copied == sum(int((t != 0).sum()) for t in values)
    assert report.total == sum(t.numel() for t in values)
    assert report.similarity == dpiat.similarity(source, target)
    told = json.loads(json.dumps(report.as_dict()))
    assert (told["copied"], told["coverage"]) == (report.copied, report.coverage)
    assert f"{report.copied:,}" in str(report)
    filled = {layer.target for layer in report.layers}
    assert not filled & {layer.name for layer in report.untouched}
