"""The page of a run, from files that no run has made."""

from __future__ import annotations

import html
import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from zoo_search.core.store import RunStore
from zoo_search.data.checks.told import TOLD
from zoo_search.finetune.entries import GivenUp, Raced, Seen, Winners
from zoo_search.networks import Recipe
from zoo_search.partitions.api import partition
from zoo_search.report import build, summary
from zoo_search.similarities.table import ModelCuts, SimilarityTable
from zoo_search.zoo.listing import ModelRow

NODES = {"a": 4, "b": 6}


@pytest.fixture
def whole(store: RunStore) -> RunStore:
    """A run directory with all that the page is made of."""
    models = {
        name: ModelCuts([f"{name}{i}" for i in range(nodes + 1)], [1] * nodes, [1] * nodes)
        for name, nodes in NODES.items()
    }
    cuts = sum(nodes + 1 for nodes in NODES.values())
    values = np.exp(-np.abs(np.subtract.outer(np.arange(cuts), np.arange(cuts))) / 4)
    table = SimilarityTable(models, values, {"metric": "cka"})
    table.save(store.path("similarity.parquet"))
    partition(table, k=2, eps=0.5, restarts=2).save(store.path("partition.json"))
    zoo = [
        ModelRow(name, "x", "resnet", 9, 1e-3, nodes, (8, 8), "timm", None, "")
        for name, nodes in NODES.items()
    ]
    store.write_json("zoo.json", [asdict(row) for row in zoo])
    return store


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def test_networks_that_came_to_no_end_stand_in_the_table_and_in_the_verdict(
    whole: RunStore,
) -> None:
    reason = "The training diverged: the loss is <nan> in epoch 2."
    gone = (GivenUp("lite0", "single", reason), GivenUp("larger", "variant", "No room."))
    replace(Winners.read(whole), given_up=gone).write(whole)
    page = whole.read_text(build(whole).rpartition("/")[2])
    told = text_of(page)
    assert "<nan>" not in page
    assert f"lite0 single model came to no end: {reason}" in told
    assert "larger changed winner came to no end: No room." in told
    assert (
        "no comparison with the best single model within the same budget: the training of lite0"
        in told
    )
    assert summary(whole).verdict in told
    head, *rows = re.findall(r"<tr.*?</tr>", page[: page.index("</table>")], re.DOTALL)
    columns = head.count("<th")
    for row in rows:
        wide = sum(int(n) - 1 for n in re.findall(r'colspan="(\d+)"', row))
        assert row.count("<td") + wide == columns


def test_where_all_came_to_an_end_nothing_is_said_of_it(whole: RunStore) -> None:
    build(whole)
    page = whole.read_text("report.html")
    assert "came to no end" not in page
    assert "held out" not in text_of(page).replace("held-out training images", "")


def test_the_race_is_told_network_by_network(whole: RunStore) -> None:
    assert "The race" not in text_of(whole.read_text(build(whole).rpartition("/")[2]))
    told = Winners.read(whole)
    seen = (Seen(2, 0.5, 1.0), Seen(4, 0.75, 0.5), Seen(4, 0.85, 0.4, {"rate": 2.0, "decay": 0.1}))
    raced = (
        Raced("reassembly 1", "reassembly", told.results[0].recipe, 4_560_000, seen),
        Raced("a", "single", Recipe.whole("a", 4), 1_000_000, seen[:1], "The loss is nan."),
    )
    replace(told, race=raced).write(whole)
    assert Winners.read(whole).race == raced
    build(whole)
    page = text_of(whole.read_text("report.html"))
    assert "The race 2 networks began." in page
    assert "2: 50.0, 4: 75.0 rate × 2.0, weight decay 0.1: 85.0" in page
    assert "2: 50.0 came to no end: The loss is nan." in page
    assert "one line a network, which ends where it was left behind" in whole.read_text(
        "report.html"
    )


def test_images_of_each_class_stand_in_the_report(whole: RunStore) -> None:
    assert "Images of each class" not in text_of(whole.read_text(build(whole).rpartition("/")[2]))
    counts = {"train": [12, 3], "test": [4, 1]}
    note = "The classes are of very different size <here>."
    whole.keep(TOLD, {"fingerprint": "x", "classes": ["cat", "<dog>"], "counts": counts,
                      "notes": [note]})  # fmt: skip
    told = text_of(whole.read_text(build(whole).rpartition("/")[2]))
    assert "class train test cat 12 4 <dog> 3 1 all 15 5" in told
    assert note in told
