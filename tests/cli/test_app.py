from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo_search as zs
from zoo_search.cli.app import app

ROOT = Path(__file__).parents[2]
SLOW = {
    "torch", "ray", "timm", "pandas", "matplotlib", "optuna", "scipy", "pyarrow", "numpy", "fsspec",
    "pydantic",
}  # fmt: skip


def call(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zoo_search", *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=300, check=False,
    )  # fmt: skip


def test_help_shows_what_stands_in_brackets() -> None:
    shown = " ".join(call("partition", "--help").stdout.split())
    assert "exact, kl or random [exact]" in shown
    assert "[about 1]" in shown


def test_the_commands_and_their_options_are_these() -> None:
    """Other tools rely on these names; a change here is a change for them."""
    import typer

    root = typer.main.get_command(app)
    found = {
        name: sorted(o for p in command.params for o in p.opts)
        for name, command in root.commands.items()  # type: ignore[attr-defined]
    }
    step = ["--address", "--dir", "--json", "--seed", "--set", "job"]
    assert found == {
        "similarity": sorted([*step, "--pair", "--png"]),
        "partition": sorted([
            *step, "--similarity", "-k", "--k", "--eps", "--size", "--method", "--restarts",
            "--one-per-set", "--certify", "--shift", "--tolerance", "--workers", "--out", "--png",
        ]),
        "reassemble": step,
        **dict.fromkeys(("run", "finetune", "report"), sorted([*step, "--hours"])),
        "rank": ["--address", "--budget", "--images", "--input-size", "--json", "--proxy",
                 "--seed", "--set", "words"],
        "init": ["--force", "--out", "--seed", "--splits", "--zoo", "folder"],
        "transfer": ["--job", "--json", "--matching", "--operator", "--out", "--png", "--set",
                     "--trust", "source", "target"],
        "predict": ["--batch-size", "--device", "--json", "--out", "--trust", "images", "winner"],
        "evaluate": ["--batch-size", "--data", "--device", "--json", "--known-only", "--picture",
                     "--set", "--split", "--trust", "winner"],
        "export": ["--onnx", "--out", "--torch", "--trust", "winner"],
        "dashboard": ["--dir", "--port", "--storage", "--writable", "run"],
        "status": ["--address", "--check", "--dir", "--json", "run"],
        "submit": ["--address", "--dir", "--install", "--name", "--no-wait", "--seed", "--set",
                   "job"],
        "jobs": ["--address", "--json"],
        "logs": ["--address", "--follow", "name"],
        "stop": ["--address", "name"],
        "doctor": ["--address", "--json"],
        "zoo": [], "data": [], "cluster": [],
    }  # fmt: skip
    zoo = root.commands["zoo"].commands  # type: ignore[attr-defined]
    assert sorted(zoo) == ["inspect", "list", "pretrain"]
    assert all("--set" in {o for p in command.params for o in p.opts} for command in zoo.values())
    cluster = root.commands["cluster"].commands  # type: ignore[attr-defined]
    assert {name: sorted(o for p in c.params for o in p.opts) for name, c in cluster.items()} == {
        "up": ["--workers", "--yes", "-y", "file"],
        "down": ["--yes", "-y", "file"],
        "status": ["--json", "file"],
    }
    data = root.commands["data"].commands  # type: ignore[attr-defined]
    assert {name: sorted(o for p in c.params for o in p.opts) for name, c in data.items()} == {
        "pack": ["--name", "--resize", "--seed", "--set", "--shard-mb", "out", "source"]
    }


def test_the_command_line_starts_without_what_is_slow_to_import() -> None:
    code = f"import sys, zoo_search.cli.app; print(sorted({SLOW} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_mistake_is_told_without_torch() -> None:
    code = """
import sys
from zoo_search.cli.app import app
for command in (["run"], ["rank"], ["report"], ["reassemble"], ["zoo", "list"]):
    try:
        app([*command, "nowhere.yaml"])
    except Exception as error:
        print(*command, type(error).__name__, {"torch", "ray", "timm"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.partition("UserError ")[2] for line in done.stdout.splitlines()] == ["set()"] * 5


def test_a_mistake_is_one_paragraph_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: a\nzoo: {m: {arhc: resnet18}}\ndataset: digits\n", encoding="utf-8")
    done = call("run", str(path))
    assert done.returncode == 2
    assert "unknown key 'arhc' in 'zoo.m'. Did you mean 'arch'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_told() -> None:
    assert call("--version").stdout == f"zoo-search {zs.__version__}\n"


def test_a_shell_completes_commands_and_options() -> None:
    """As bash asks: the words so far, and the number of the one to complete."""
    asked = {
        "_ZOO_SEARCH_COMPLETE": "complete_bash",
        "COMP_CWORD": "1",
        "COMP_WORDS": "zoo-search re",
    }
    script = "from zoo_search.cli.app import app; app(prog_name='zoo-search')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        env=os.environ | asked,
    )  # fmt: skip
    assert done.stdout.split() == ["reassemble", "report"]


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ("zoo.b.arch=resnet14t", 0, "resnet14t"),
        ("zoo.b.arhc=x", 2, "error: --set: unknown key 'arhc' in 'zoo.b'. Did you mean 'arch'?"),
        ("partition.k=0", 2, "error: --set: 'partition.k': should be the number of blocks"),
        ("partition.k", 2, "error: --set partition.k: give the place of a value"),
    ],
)
def test_a_value_of_the_run_file_is_overruled(
    tmp_path: Path, change: str, code: int, told: str
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "name: a\ninput_size: 32\ndataset: digits\n"
        "zoo: {b: {arch: resnet10t, kwargs: {num_classes: 10}, weights: null}}\ninit: random\n",
        encoding="utf-8",
    )
    done = call("zoo", "list", str(path), "--json", "--set", change)
    assert done.returncode == code, done.stderr
    assert told in " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("command", "cure"),
    [
        ("partition --similarity x.parquet", "leave --set out"),
        ("transfer lcnet_050 lcnet_075 --out x.safetensors", "Give it with --job"),
        ("data pack images out", "give a run file (.yaml)"),
    ],
)
def test_a_change_without_a_run_file_is_told(command: str, cure: str) -> None:
    done = call(*command.split(), "--set", "seed=3")
    assert done.returncode == 2
    assert "error: --set seed=3 overrules a value of a run file" in done.stderr
    assert cure in done.stderr


@pytest.mark.parametrize("command", ["run", "zoo list", "partition", "report"])
def test_a_missing_run_file_is_named(command: str) -> None:
    done = call(*command.split(), "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml cannot be read" in done.stderr


@pytest.mark.slow
def test_a_module_in_the_working_directory_can_be_named(tmp_path: Path) -> None:
    """As the installed command does it, which has not the working directory in its path."""
    code = "def ones(module, context):\n    for t in module.parameters():\n        t.fill_(1.0)\n"
    (tmp_path / "hooks_here.py").write_text(code, encoding="utf-8")
    (tmp_path / "job.yaml").write_text(
        "name: a\ndataset: digits\ninput_size: 32\ninit: module:hooks_here:ones\n"
        "zoo: {a: {arch: resnet10t, weights: null}}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "zoo_search", "zoo", "list", "job.yaml", "--json"],
        capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert "module:hooks_here:ones" in row["weights"]
