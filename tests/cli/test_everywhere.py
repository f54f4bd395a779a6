"""What is the same in every command: options by one name, errors as one paragraph, progress."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import zoo_search
from zoo_search.cli import app as commands
from zoo_search.core import progress

WRONG = {
    "init": "nowhere",
    "run": "nowhere.yaml",
    "similarity": "nowhere.yaml",
    "partition": "--similarity nowhere.parquet",
    "reassemble": "nowhere.yaml",
    "finetune": "nowhere.yaml",
    "report": "nowhere.yaml",
    "rank": "nowhere.yaml",
    "predict": "nowhere photo.png",
    "evaluate": "nowhere --data digits",
    "transfer": "lcnet_050 lcnt_075 --out x.safetensors",
    "export": "nowhere --onnx",
    "dashboard": "nowhere",
    "submit": "nowhere.yaml --address http://head:8265",
    "status": "nowhere",
    "jobs": "--address http://127.0.0.1:9",
    "logs": "nothing --address http://127.0.0.1:9",
    "stop": "nothing --address HOST:6379",
    "doctor": None,  # what is wrong with a machine is its answer, and no error
    "zoo list": "nowhere.yaml",
    "zoo inspect": "nowhere.yaml m",
    "zoo pretrain": "nowhere.yaml",
    "data pack": "nowhere out",
}
"""For each command, what it cannot do."""

OTHERS = {
    "--seed": ("init", "data pack"),  # of no run file
    "--address": ("submit", "status", "jobs", "logs", "stop"),  # of a job server
    "--out": ("init", "predict", "transfer", "export", "partition"),
    "--name": ("zoo pretrain", "data pack", "submit"),
    "--zoo": ("init",),
    "--png": ("similarity", "partition", "transfer"),
}
"""Options of one name whose help differs, as what they are for does."""


def every_command() -> Iterator[tuple[str, Any]]:
    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        if inner := getattr(command, "commands", None):
            for word, each in inner.items():
                yield from below(f"{name} {word}".strip(), each)
        else:
            yield name, command

    yield from below("", typer.main.get_command(commands.app))


def told(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[int, str]:
    """Return the exit code and what stands on standard error, as a user has it."""
    monkeypatch.setattr(sys, "argv", ["zoo-search", *words])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    return ended.value.code, capsys.readouterr().err


def test_every_command_is_walked_over() -> None:
    assert {name for name, _ in every_command()} == set(WRONG)


@pytest.mark.parametrize("name", [name for name, words in WRONG.items() if words is not None])
def test_what_a_user_can_mend_is_one_paragraph_and_exit_code_2(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = told([*name.split(), *str(WRONG[name]).split()], monkeypatch, capsys)
    assert code == 2, said
    (problem,) = [line for line in said.splitlines() if not line.startswith("  ")]
    assert problem.startswith("error: ")
    assert problem.endswith((".", ")", "?"))
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", WRONG)
def test_words_that_no_command_takes_are_told_in_the_same_form(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    code, said = told([*name.split(), "--no-such-option"], monkeypatch, capsys)
    assert code == 2
    (problem,) = said.splitlines()
    assert problem.startswith(f"error: zoo-search {name}: No such option: --no-such-option")
    assert problem.endswith(f"See 'zoo-search {name} --help'.")


def test_what_is_missing_is_told_in_the_same_form(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    code, said = told(["run"], monkeypatch, capsys)
    assert (code, said) == (
        2,
        "error: zoo-search run: Missing argument 'job'. See 'zoo-search run --help'.\n",
    )
    code, said = told(["rnu"], monkeypatch, capsys)
    assert code == 2
    assert said.startswith("error: zoo-search: No such command 'rnu'.")


@pytest.mark.parametrize("raised", [KeyboardInterrupt, typer.Abort])
def test_a_stop_is_told(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("zoo_search.config.load_job", stop)
    code, said = told(["run", str(tmp_path / "job.yaml")], monkeypatch, capsys)
    assert (code, said) == (
        130,
        "\nstopped; finished steps are kept, the same command goes on from there\n",
    )


def test_an_option_is_the_same_wherever_it_stands() -> None:
    found: dict[str, set[object]] = {}
    for name, command in every_command():
        for param in command.params:
            if param.param_type_name != "option":
                continue
            for word in param.opts:
                if name not in OTHERS.get(word, ()):
                    looks = (param.help, param.metavar, param.default, param.multiple)
                    found.setdefault(word, set()).add(looks)
    assert {word: looks for word, looks in found.items() if len(looks) > 1} == {}


def test_a_run_directory_is_called_the_same_in_every_command() -> None:
    spoken = [
        (name, word)
        for name, command in every_command()
        for param in command.params
        if param.param_type_name == "option" and "run directory" in (param.help or "").lower()
        for word in param.opts
    ]
    assert {word for _, word in spoken} == {"--dir"}
    assert {name for name, _ in spoken} == {
        "run", "similarity", "partition", "reassemble", "finetune", "report", "dashboard", "submit",
        "status",
    }  # fmt: skip


def test_progress_is_shown_in_one_way() -> None:
    """A bar of another library would look different, and be silent in a log."""
    package = Path(zoo_search.__file__).parent
    bars = ("rich.progress", "rich.status", "rich.live", "tqdm")
    other = []
    for path in package.rglob("*.py"):
        if path == Path(progress.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
            other += [f"{path.name}: {name}" for name in names if name.startswith(bars)]
    assert other == []
