from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from zoo_search.cli.options import Place
from zoo_search.cli.partition import PartitionOptions, blocks_table, partition_command
from zoo_search.core.errors import UserError
from zoo_search.partitions.api import partition
from zoo_search.partitions.result import Partition, load_partitions


@pytest.fixture(scope="module")
def file(zoo_table, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "similarity.parquet"
    zoo_table([8, 12, 16]).save(path)
    return path


def call(*words):
    return subprocess.run(
        [sys.executable, "-m", "zoo_search", "partition", *map(str, words)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_bare_file_is_partitioned_without_a_run(file, zoo_table, tmp_path):
    out, png = tmp_path / "deep" / "partition.json", tmp_path / "p.png"
    done = call(
        "--similarity", file, "-k", 4, "--restarts", 20, "--seed", 3, "--out", out, "--png", png,
        "--certify", 10, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = Partition.load(out)
    expected = partition(zoo_table([8, 12, 16]), k=4, restarts=20, seed=3)
    assert (found.blocks, found.restarts) == (expected.blocks, expected.restarts)
    assert found.gap < 0.01
    assert json.loads(done.stdout) == json.loads(out.read_text())["blocks"]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "20/20" in done.stderr
    assert "best objective" in done.stderr
    assert sorted(item.name for item in tmp_path.iterdir()) == ["deep", "p.png"]


def test_several_numbers_of_blocks_are_told_together(file, zoo_table, tmp_path):
    out = tmp_path / "partition.json"
    done = call(
        "--similarity", file, "-k", 4, "-k", 2, "--restarts", 5, "--out", out, "--png",
        tmp_path / "p.png", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = zoo_table([8, 12, 16])
    expected = [partition(table, k=k, restarts=5) for k in (2, 4)]
    found = load_partitions(out)
    assert [p.blocks for p in found] == [p.blocks for p in expected]
    rows = json.loads(done.stdout)
    assert [row["k"] for row in rows] == [2] * 6 + [4] * 12
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["p-k2.png", "p-k4.png"]


def test_a_bare_file_needs_nothing_that_is_slow_to_import(file):
    code = """
import sys
from zoo_search.cli.app import main
sys.argv[1:] = ["partition", "--similarity", sys.argv[1], "--restarts", "3", "--json"]
try:
    main()
finally:
    slow = {"torch", "ray", "timm", "pandas", "optuna", "matplotlib", "pyarrow.dataset"}
    print(sorted(slow & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=True, timeout=120
    )
    assert len(json.loads(done.stdout)) == 12
    assert done.stderr.splitlines()[-1] == "[]"


def test_every_option_reaches_the_problem(file, zoo_table):
    options = {
        "k": 3, "eps": 0.9, "size": "macs", "method": "kl", "restarts": 1, "one_per_set": False,
    }  # fmt: skip
    (found,) = partition_command(None, str(file), PartitionOptions(**options), Place(seed=0))
    assert (found.k, found.eps, found.size, found.method) == (3, 0.9, "macs", "kl")
    assert len(found.restarts) == 1
    table = zoo_table([8, 12, 16])
    assert found.blocks == partition(table, **options, seed=0).blocks
    assert found.blocks != partition(table, **options | {"one_per_set": True}, seed=0).blocks
    assert "3 sets, objective" in blocks_table(found).title
    assert "gap" in blocks_table(found).title


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "neither was given"),
        (("job.yaml", "--similarity", "TABLE"), "both were given"),
        (("--similarity", "none.parquet"), "none.parquet cannot be read"),
        (("--similarity", "TEXT"), "is no similarity table"),
        (("--similarity", "TABLE", "--eps", "0.1", "-k", "5"), "The smallest 'partition.eps'"),
        (("--similarity", "TABLE", "--method", "exat"), "Did you mean 'exact'?"),
        (("--similarity", "TABLE", "-k", "0"), "--k is [0]: should be the number of blocks"),
        (("--similarity", "TABLE", "-k", "3", "-k", "0"), "--k is [3, 0]: should be the number"),
        (("--similarity", "TABLE", "--restarts", "2", "--out", "TEXT/p.json"), "cannot be written"),
    ],
)
def test_a_mistake_is_one_paragraph(file, tmp_path, words, told):
    text = tmp_path / "text.parquet"
    text.write_text("no table")
    done = call(*[w.replace("TABLE", str(file)).replace("TEXT", str(text)) for w in words])
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1


def test_the_smallest_eps_in_the_message_works(file):
    with pytest.raises(UserError, match="every model of this zoo is") as caught:
        partition_command(None, str(file), PartitionOptions(k=5, eps=0.1, restarts=2), Place())
    told = str(caught.value).split("every model of this zoo is ")[1]
    eps = float(told.split()[0].rstrip("."))
    options = PartitionOptions(k=5, eps=eps, restarts=2)
    (found,) = partition_command(None, str(file), options, Place())
    assert np.isfinite(found.objective)
