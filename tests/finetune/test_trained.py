"""What is taken over from an earlier run, and from a command that was killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import Done

from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import ProtocolResult
from zoo_search.finetune.trained import (
    Trained,
    earlier_winners,
    folder_of,
    is_finished,
    keep_trained,
    read_trained,
)
from zoo_search.training.snapshot import Epoch


@pytest.mark.slow
def test_only_untouched_winners_are_taken_over(done: Done, tmp_path: Path) -> None:
    store, results = done
    copy = RunStore(tmp_path / "copy")
    shutil.copytree(Path(store.url) / "winners", Path(copy.url) / "winners")
    assert earlier_winners(copy) == {r.told[0].task: r.folder for r in results}
    edited, torn = (Path(copy.path(f"winners/{i}/model.safetensors")) for i in (0, 2))
    state = load_file(edited)
    save_file({**state, "head.bias": state["head.bias"] + 1}, edited)
    torn.write_bytes(torn.read_bytes()[:1000])
    assert earlier_winners(copy) == {
        results[1].told[0].task: "winners/1",
        results[3].told[0].task: "winners/3",
    }


def test_a_finished_task_is_there_as_it_was_written_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RunStore(tmp_path)
    epoch = Epoch(1, 0.5, 0.25, 1.0, 1e-3, 40.0, 2**20, 0.375)
    gave = {"frozen": ProtocolResult(0.5, 10, 1.0, (epoch,))}
    trained = Trained(gave, np.array([1, -1, 2]), {"w": torch.randn(3)})
    assert not is_finished(store, "k")
    keep_trained(store, "k", trained)
    assert is_finished(store, "k")
    folder = tmp_path / folder_of("k")
    assert len(list(folder.iterdir())) == 4
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        for place in range(0, len(data), max(1, len(data) // 40)):
            file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            if is_finished(store, "k"):  # the white space of JSON
                assert file.name == "sums.json"
            assert "changed after it was written" in " ".join(capsys.readouterr().err.split())
            assert not folder.exists()
            keep_trained(store, "k", trained)
        file.unlink()
        assert not is_finished(store, "k")
        keep_trained(store, "k", trained)
    again = read_trained(store, "k")
    assert again.protocols == gave
    assert again.predicted.tolist() == [1, -1, 2]
    assert torch.equal(again.state["w"], trained.state["w"])
