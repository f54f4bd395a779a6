"""What is taken over from an earlier run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from small_runs import Done

from zoo_search.core.store import RunStore
from zoo_search.finetune.trained import earlier_winners


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
