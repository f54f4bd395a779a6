"""The command line: every command parses, calls one function, and prints."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from zoo_search.cli import cluster, data, steps, zoo
from zoo_search.cli.doctor import doctor
from zoo_search.cli.evaluate import evaluate
from zoo_search.cli.init import init
from zoo_search.cli.jobs.commands import jobs, logs, stop
from zoo_search.cli.jobs.status import status
from zoo_search.cli.options import Directory, RunOrFile, Trust, run_directory, say
from zoo_search.cli.partition import partition
from zoo_search.cli.predict import predict
from zoo_search.cli.rank import rank
from zoo_search.cli.submit import submit
from zoo_search.cli.transfer import transfer
from zoo_search.core.errors import Note, UserError, first_line
from zoo_search.core.progress import console, working
from zoo_search.core.redaction import shown


def export(
    winner: Annotated[
        str,
        typer.Argument(help="Folder of a winner, path or fsspec URI, as runs/digits/winners/0."),
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx.")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="Write model.pt2 (torch.export).")] = False,
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder, path or URI [exports/NUMBER of the run; else the winner's own]."
        ),
    ] = None,
    trust: Trust = False,
) -> None:
    """Export a winner for other runtimes."""
    from zoo_search.export.runtimes import export_all

    with working("exporting"):
        paths = export_all(winner, onnx=onnx, torch_export=torch, out=out, trust=trust)
    for path in paths:
        print(path)


def dashboard(
    run: RunOrFile = None,
    directory: Directory = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    storage: Annotated[
        str | None, typer.Option(help="The Optuna storage, where search.storage named one.")
    ] = None,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let the page change and delete studies.")
    ] = False,
) -> None:
    """The ranking of the candidates, and score against GMACs, in a browser (optuna-dashboard)."""
    from zoo_search.cli.dashboard import serve

    serve(run_directory(run, directory, "dashboard"), port, storage, writable=writable)


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # else [defaults] in brackets would be taken for markup
)
for command in (
    init, steps.run, steps.similarity, partition, steps.reassemble, steps.finetune, steps.report,
    rank, predict, evaluate, transfer, export, dashboard, status, submit, jobs, logs, stop,
    doctor,
):  # fmt: skip
    app.command()(command)
app.add_typer(zoo.app, name="zoo")
app.add_typer(data.app, name="data")
app.add_typer(cluster.app, name="cluster")


def _version(wanted: bool) -> None:
    if wanted:
        from zoo_search.core.version import __version__

        print(f"zoo-search {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which it is.")
    ] = False,
) -> None:
    """Search a zoo of pre-trained vision models for networks reassembled from their blocks."""


_STOPPED = 130  # by Ctrl-C


def _refuse(problem: str) -> NoReturn:
    console.print("error:", style="bold red", end=" ")
    console.print(problem, soft_wrap=True)
    sys.exit(2)


def _refuse_usage(error: Any) -> NoReturn:
    """Say in one paragraph what is wrong with the words of a command line; without any, help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(error.exit_code)
    context = error.ctx
    command = "zoo-search" if context is None else context.command_path
    _refuse(f"{command}: {error.format_message()} See '{command} --help'.")


def main() -> None:
    """Run the command line; what a user can mend is one paragraph and exit code 2.

    A fault of ours is a stack trace, without the keys in the addresses that it quotes.

    Modules in the working directory can be named in run files, as with ``python -m``. They come
    last, so that none hides an installed one.
    """
    sys.path.append(str(Path.cwd()))
    as_python_does: Callable[..., None] = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], *more: object, **named: object
    ) -> None:
        if issubclass(category, Note):
            say(f"note: {message}")
        else:
            as_python_does(message, category, *more, **named)

    warnings.showwarning = show
    try:
        # Not standalone: typer would print mistakes in its own form, and stop without a word.
        code = app(prog_name="zoo-search", standalone_mode=False) or 0
    except UserError as error:
        # Ray wraps what a worker raised in a stack trace.
        _refuse(str(getattr(error, "cause", error)))
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except Exception as error:
        if hasattr(error, "format_message"):  # click's, or typer's own copy of click
            _refuse_usage(error)
        # Not before: it imports fsspec.
        from zoo_search.core.files import is_full, is_refused, unreachable

        if (silent := unreachable(error)) is not None:
            _refuse(
                shown(
                    f"A storage or server cannot be reached ({type(silent).__name__}: "
                    f"{first_line(silent)}). Check its address, the network and the credentials "
                    "that it needs, then run the same command again; finished steps are kept."
                )
            )
        if not is_full(error) and not is_refused(error):
            # A fault of ours, in which libraries may quote addresses.
            print(shown(traceback.format_exc()), end="", file=sys.stderr)
            sys.exit(1)
        place, reason = getattr(error, "filename", None), getattr(error, "strerror", error)
        _refuse(
            f"{place or 'A file'} cannot be used or written ({reason}). Free some room, or give a "
            "place that you may write to, then run the same command again."
        )
    if code == _STOPPED:
        console.print("\nstopped; finished steps are kept, the same command goes on from there")
    sys.exit(code)
