"""What the words of ``zoo-search transfer`` may mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from zoo_search.errors import UserError
from zoo_search.zoo.transfer import transfer_by_name


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file(timm.create_model("lcnet_050").state_dict(), path)
    return path


def test_a_file_is_written_and_read_again(weights: Path, tmp_path: Path) -> None:
    """The written file says what it is: the same architecture takes everything from it."""
    one, two, png = tmp_path / "1.safetensors", tmp_path / "2.safetensors", tmp_path / "m.png"
    report = transfer_by_name(f"lcnet_050@{weights}", "mobilenetv3_small_050", one, picture=png)
    assert 0 < report.coverage < 1
    assert png.read_bytes().startswith(b"\x89PNG")
    again = transfer_by_name(str(one), "mobilenetv3_small_050", two)
    assert again.coverage == 1
    first, second = load_file(one), load_file(two)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_target_from_a_file_keeps_what_is_not_filled(weights: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    transfer_by_name(f"lcnet_050@{weights}", "resnet10t", one)
    before = load_file(one)
    report = transfer_by_name(f"lcnet_050@{weights}", str(one), two)
    assert report.coverage < 1
    after = load_file(two)
    assert all(torch.equal(before[name], after[name]) for name in before)  # twice is once


def test_a_file_without_an_architecture_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ARCH@"):
        transfer_by_name(str(weights), "resnet10t", tmp_path / "out.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a safetensors file"):
        transfer_by_name(
            str(tmp_path / "bad.safetensors"), "resnet10t", tmp_path / "out.safetensors"
        )


def test_unknown_operators_leave_no_file(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(UserError, match="Did you mean 'magnitude'"):
        transfer_by_name(f"lcnet_050@{weights}", "resnet10t", out, operator="magnitud")
    assert not out.exists()
