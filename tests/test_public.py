from __future__ import annotations

import subprocess
import sys

import pytest

FIRST = ("pass", "import zoo_search.partition.step as step", "import zoo_search.similarity.api")


def test_a_package_that_shares_its_name_with_a_function_is_both() -> None:
    """Whatever is imported first; the three processes run side by side."""
    code = """
import torch, torchvision
{first}
import zoo_search as zs
torch.manual_seed(0)
nets = {{"a": torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)])}}
table = zs.similarity(nets, torch.randn(16, 3, 8, 8), batch_size=16)
print(len(zs.partition(table, k=2, eps=0.5, restarts=2).blocks))
import zoo_search.partition.step as again
print(again.__name__)
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(first=first)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for first in FIRST
    ]  # fmt: skip
    for process in started:
        out, error = process.communicate(timeout=300)
        assert out.split() == ["2", "zoo_search.partition.step"], error


def test_every_public_name_is_there() -> None:
    import zoo_search as zs

    assert [name for name in zs.__all__ if not hasattr(zs, name)] == []
    assert set(dir(zs)) == set(zs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        zs.serach  # noqa: B018
