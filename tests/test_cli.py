from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo_search.cli import app

ROOT = Path(__file__).parent.parent


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
    step = ["--address", "--dir", "--json", "--seed", "job"]
    assert found == {
        "similarity": sorted([*step, "--pair", "--png"]),
        "partition": sorted([
            *step, "--similarity", "-k", "--k", "--eps", "--size", "--method", "--restarts",
            "--one-per-set", "--certify", "--workers", "--out", "--png",
        ]),
        "run": step, "reassemble": step,
        "finetune": step, "report": step,
        "rank": ["--address", "--json", "--proxy", "--seed", "job"],
        "transfer": ["--job", "--json", "--matching", "--operator", "--out", "--png", "source",
                     "target"],
        "export": ["--onnx", "--torch", "winner"],
        "dashboard": ["--port", "directory"],
        "submit": ["--address", "--dir", "job"],
        "doctor": ["--address", "--json"],
        "zoo": [],
    }  # fmt: skip
    zoo = root.commands["zoo"].commands  # type: ignore[attr-defined]
    assert sorted(zoo) == ["inspect", "list", "pretrain"]


def test_a_mistake_is_one_paragraph_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: a\nzoo: {m: {arhc: resnet18}}\ndataset: digits\n", encoding="utf-8")
    done = call("run", str(path))
    assert done.returncode == 2
    assert "unknown key 'arhc' in 'zoo.m'. Did you mean 'arch'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "zoo list", "partition", "report"])
def test_a_missing_run_file_is_named(command: str) -> None:
    done = call(*command.split(), "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml cannot be read" in done.stderr


def test_a_run_directory_without_a_study_has_no_dashboard(tmp_path: Path) -> None:
    done = call("dashboard", str(tmp_path))
    assert done.returncode == 2
    assert "holds no study" in done.stderr


def test_the_doctor_examines_everything(private_home: Path) -> None:
    done = call("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert {"python", "torch", "torch with torchvision", "memory", "disk", "ray cluster"} <= set(
        checks
    )
    assert checks["torch with torchvision"]["state"] == "ok"
    assert "match" in checks["torch with torchvision"]["found"]
    assert done.returncode == (2 if any(c["state"] == "bad" for c in checks.values()) else 0)


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


def test_transfer_writes_weights_that_fit_the_target(tmp_path: Path) -> None:
    """Between two models of a run file; the similarity of an architecture with itself is 1."""
    import timm
    from safetensors.torch import load_file, save_file

    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "job.yaml").write_text(
        "name: a\ndataset: digits\nzoo:\n"
        f"  small: {{arch: resnet10t, weights: {tmp_path / 'w.safetensors'}}}\n"
        "  large: {arch: resnet14t, weights: null}\n",
        encoding="utf-8",
    )
    out = tmp_path / "out.safetensors"
    done = call("transfer", "small", "large", "--out", str(out), "--job",
                str(tmp_path / "job.yaml"), "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    pairs = json.loads(done.stdout)
    assert any(pair["score"] == 1 for pair in pairs)
    timm.create_model("resnet14t").load_state_dict(load_file(out), strict=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("resnet10t@{0}", "resnet10t", "--out", "{0}"), "is read from this file"),
        (("small", "resnet10t", "--job", "{1}", "--out", "{0}"), "is read from this file"),
        (("resnet10t@{0}", "resnet10t", "--out", "w.bin"), "--out w.bin.*ends in .safetensors"),
        (("resnet10t@{0}", "resnet10t", "--out", "{2}", "--png", "m.jpg"), "--png m.jpg.*in .png"),
        (("gone.safetensors", "resnet10t", "--out", "{2}"), "no file or folder 'gone.saf"),
        (("smal", "resnet10t", "--job", "{1}", "--out", "{2}"), r"zoo \(small\)\. Did you"),
    ],
)  # fmt: skip
def test_transfer_writes_over_nothing_it_reads(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    import timm
    from safetensors.torch import save_file

    from zoo_search.errors import UserError
    from zoo_search.zoo.transfer import transfer_by_name

    weights, job, out = (tmp_path / n for n in ("w.safetensors", "job.yaml", "out.safetensors"))
    save_file(timm.create_model("resnet10t").state_dict(), weights)
    entry = f"{{arch: resnet10t, weights: {weights}}}"
    job.write_text(f"name: a\ndataset: digits\nzoo: {{small: {entry}}}\n", encoding="utf-8")
    before = weights.read_bytes()
    source, target, *rest = (word.format(weights, job, out) for word in words)
    options = dict(zip(rest[::2], map(Path, rest[1::2]), strict=True))
    with pytest.raises(UserError, match=message):
        transfer_by_name(
            source,
            target,
            options["--out"],
            options.get("--job"),
            picture=options.get("--png"),
        )
    assert weights.read_bytes() == before
    assert not out.exists()
