"""What several commands ask for in the same words."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from zoo_search.core.errors import UserError, some
from zoo_search.core.progress import console
from zoo_search.core.redaction import shown

if TYPE_CHECKING:
    from zoo_search.config import JobConfig

T = TypeVar("T")

Job = Annotated[Path, typer.Argument(help="The run file, such as jobs/digits.yaml.")]
Directory = Annotated[
    str | None, typer.Option("--dir", help="Run directory: a path or fsspec URI [runs/NAME].")
]
RunOrFile = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="A run directory, path or fsspec URI, as runs/digits, or the run file of one.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster: HOST:PORT or auto [RAY_ADDRESS, else this machine]."),
]
Seed = Annotated[int | None, typer.Option(help="Overrules the seed of the run file.")]
Hours = Annotated[
    float | None,
    typer.Option(help="Wall clock to fill with the race; overrules search.hours."),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Let files and folders name code that builds their networks."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the table as JSON.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images that are looked at together [by the device].")
]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")]


Change = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PLACE=VALUE",
        help="Overrules a value of the run file, as in --set partition.k=6; as often as you like.",
    ),
]


@dataclass(frozen=True)
class RunFile:
    """A run file, and what of it is overruled."""

    job: Job
    change: Change = None

    def load(self) -> JobConfig:
        """Read and validate it; it can name modules beside it, and in the working directory."""
        from zoo_search.config import load_job

        share_modules_beside(self.job)
        return load_job(self.job, self.change or ())


def share_modules_beside(file: str | Path) -> None:
    """Let a run file name the modules that lie beside it."""
    from zoo_search.cluster import share_modules

    share_modules(Path(file).absolute().parent)


def is_run_file(word: str) -> bool:
    """Say whether a word that may also name other things is the path of a run file."""
    return word.endswith((".yaml", ".yml"))


def need_run_file(change: list[str] | None, cure: str) -> None:
    """Raise if values are to be overruled where there is no run file; ``cure`` says what to give.

    Raises:
        UserError: If there are any.
    """
    if change:
        raise UserError(
            f"--set {change[0]} overrules a value of a run file, and none is given. {cure}"
        )


def run_directory(run: str | None, directory: str | None, command: str) -> str:
    """Return the run directory that a command is given: itself, its run file, or ``--dir``.

    Raises:
        UserError: If none is given, or two are.
    """
    is_file = run is not None and is_run_file(run)
    if run is not None and (directory is None or not is_file):
        if directory is not None:
            raise UserError(
                f"zoo-search {command}: {run} and --dir {directory} name two run directories. Give "
                "one of them."
            )
        if not is_file:
            return run
        from zoo_search.config import load_job

        return f"runs/{load_job(run).name}"
    if directory is None:
        raise UserError(
            f"zoo-search {command} needs a run: give its directory, such as runs/digits, its run "
            "file, or --dir."
        )
    return directory


@dataclass(frozen=True)
class Place:
    """Where a run is, where it computes, and its seed."""

    directory: Directory = None
    address: Address = None
    seed: Seed = None


def grouped(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command whose parameters include dataclasses one option for each of their fields."""
    groups: dict[str, type] = {}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind, fields = parameter.annotation, [parameter]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            fields = list(inspect.signature(kind, eval_str=True).parameters.values())
        options += [field.replace(kind=inspect.Parameter.KEYWORD_ONLY) for field in fields]

    @functools.wraps(command)
    def call(**given: object) -> T:
        for name, group in groups.items():
            names = inspect.signature(group).parameters
            given[name] = group(**{field: given.pop(field) for field in names})
        return command(**given)

    call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return call


def say(line: str) -> None:
    """Print a line on standard error, where tables and JSON do not go."""
    console.print(line, soft_wrap=True)


def say_unreadable(unreadable: Mapping[str, str], total: int) -> None:
    """Say how many of some images could not be read, and name the first ones; nothing of none."""
    if unreadable:
        named = some([f"{name} ({reason})" for name, reason in unreadable.items()])
        say(f"note: {len(unreadable)} of {total} images cannot be read: {shown(named)}")


def write_picture(path: str | Path, data: bytes, option: str = "--png") -> None:
    """Write the picture that an option asks for, or raise a UserError."""
    from zoo_search.core.files import write

    try:
        write(path, data)
    except OSError as error:
        raise UserError(
            f"The picture {path} cannot be written ({error.strerror or error}). "
            f"Give {option} the path or URI of a file in a folder that you may write to."
        ) from None
