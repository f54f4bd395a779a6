"""The command line: every command parses, calls one library function, and prints."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo_search.errors import UserError
from zoo_search.progress import console

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # else [defaults] in brackets would be taken for markup
    help="Search a zoo of pre-trained vision models for networks reassembled from their blocks.",
)
zoo_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The models of a run file.")
app.add_typer(zoo_app, name="zoo")

Job = Annotated[Path, typer.Argument(help="The run file, such as jobs/digits.yaml.")]
Dir = Annotated[
    str | None, typer.Option("--dir", help="Run directory: a path or fsspec URI [runs/NAME].")
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster: HOST:PORT or auto [RAY_ADDRESS, else this machine]."),
]
Seed = Annotated[int | None, typer.Option(help="Overrules the seed of the run file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the table as JSON.")]


def _say(line: str) -> None:
    console.print(line, soft_wrap=True)


def _run(
    job: Path, until: str, directory: str | None, address: str | None, seed: int | None
) -> Any:
    from zoo_search import pipeline

    return pipeline.run(job, until=until, directory=directory, address=address, seed=seed, say=_say)


def _show_winners(run: Any, as_json: bool) -> None:
    from zoo_search.report import summary
    from zoo_search.tables import show

    told = summary(run.store)
    show(f"{run.job.name}: winners and baselines", told.rows, told.columns, as_json=as_json)
    if not as_json:
        report = "" if told.report is None else f"report  {told.report}\n"
        print(f"{told.verdict}\n\n{report}winner  {told.winner}")


@app.command()
def run(
    job: Job,
    directory: Dir = None,
    address: Address = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """All steps, resumable: similarity, partition, reassembly, fine-tuning, report."""
    _show_winners(_run(job, "report", directory, address, seed), as_json)


@app.command()
def similarity(
    job: Job,
    directory: Dir = None,
    address: Address = None,
    seed: Seed = None,
    png: Annotated[Path | None, typer.Option(help="Draw the table as a heat map.")] = None,
    pair: Annotated[str | None, typer.Option(help="Two models A,B for --png [whole zoo].")] = None,
    as_json: AsJson = False,
) -> None:
    """How alike the cuts of all models are: similarity.parquet."""
    from zoo_search.config import load_job
    from zoo_search.similarity.heatmap import parse_pair, write_png
    from zoo_search.similarity.summary import COLUMNS, pairs
    from zoo_search.tables import show

    models = parse_pair(pair, load_job(job).zoo)
    done = _run(job, "similarity", directory, address, seed)
    if png is not None:
        write_png(done.table, png, models)
        _say(f"heat map  {png}")
    show("Models whose cuts are most alike", pairs(done.table), COLUMNS, as_json=as_json)


@app.command()
def partition(
    job: Annotated[Path | None, typer.Argument(help="The run file, or give --similarity.")] = None,
    similarity: Annotated[
        str | None,
        typer.Option(help="A similarity.parquet (path or fsspec URI): no run is needed."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", "--k", help="Blocks a model, and sets [4].")
    ] = None,
    eps: Annotated[
        float | None, typer.Option(help="A block stays below (1 + eps) |M| / k [0.2].")
    ] = None,
    size: Annotated[str | None, typer.Option(help="|M| counts nodes, params or macs.")] = None,
    method: Annotated[str | None, typer.Option(help="exact, kl or random [exact].")] = None,
    restarts: Annotated[int | None, typer.Option(help="Independent starts [200].")] = None,
    one_per_set: Annotated[
        bool | None,
        typer.Option(
            "--one-per-set/--no-one-per-set", help="A model's blocks lie in k different sets."
        ),
    ] = None,
    certify: Annotated[
        float | None, typer.Option(help="Seconds to spend on the upper bound [about 1].")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Ray actors [one a CPU].")] = None,
    out: Annotated[str | None, typer.Option(help="Where partition.json goes as well.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the sets and the restarts.")] = None,
    directory: Dir = None,
    address: Address = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Cut the models into blocks and group these into equivalence sets: partition.json.

    With a run file the options overrule its section 'partition'. Sizes in MACs are multiply-adds.
    """
    from zoo_search.partition.command import COLUMNS, partition_command, title
    from zoo_search.partition.picture import write_png
    from zoo_search.tables import show

    options = {
        "k": k, "eps": eps, "size": size, "method": method, "restarts": restarts,
        "one_per_set": one_per_set, "certify": certify, "workers": workers,
    }  # fmt: skip
    done = partition_command(
        job, similarity, options, directory=directory, address=address, seed=seed, say=_say
    )
    if out is not None:
        done.save(out)
    if png is not None:
        write_png(done, png)
    show(title(done), done.to_dict()["blocks"], COLUMNS, as_json=as_json)


@app.command()
def reassemble(
    job: Job,
    directory: Dir = None,
    address: Address = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Find recipes within the budget and score them without training: candidates.parquet."""
    from zoo_search.report import measured_columns, ranking
    from zoo_search.tables import show

    done = _run(job, "reassemble", directory, address, seed)
    rows = ranking(done.store)
    columns = {
        "rank": "#", "kind": "kind", "recipe": "recipe", "params": "parameters #", "macs": "MACs #",
        **measured_columns(rows), "score": f"{done.job.search.proxies[0]} #", "state": "state",
        "reason": "reason",
    }  # fmt: skip
    show("Candidates, best first", rows, columns, as_json=as_json)


@app.command()
def finetune(
    job: Job,
    directory: Dir = None,
    address: Address = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune the winners and the baselines: winners.json, winners/."""
    _show_winners(_run(job, "finetune", directory, address, seed), as_json)


@app.command()
def report(
    job: Job,
    directory: Dir = None,
    address: Address = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """The report of a run: report.html."""
    _show_winners(_run(job, "report", directory, address, seed), as_json)


@app.command()
def rank(
    job: Job,
    proxy: Annotated[str, typer.Option(help="Training-free score to rank by.")] = "probe",
    address: Address = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """The zoo models on the target data, by a training-free score, best first."""
    from zoo_search.pipeline import rank_zoo
    from zoo_search.tables import show

    columns = {"model": "model", "score": f"{proxy} #", "params": "parameters #", "macs": "MACs #",
               "in_budget": "in budget"}  # fmt: skip
    show("Zoo models", rank_zoo(job, proxy, address=address, seed=seed), columns, as_json=as_json)


@app.command()
def transfer(
    source: Annotated[
        str,
        typer.Argument(
            help="A timm name, ARCH@FILE, a file that this command wrote, a winner's folder, or a "
            "zoo name with --job."
        ),
    ],
    target: Annotated[str, typer.Argument(help="The same.")],
    out: Annotated[Path, typer.Option(help="Where the target's weights go (.safetensors).")],
    job: Annotated[Path | None, typer.Option(help="Run file whose zoo the names may mean.")] = None,
    matching: Annotated[
        str, typer.Option(help="How layers are matched: dp, bipartite, nbipartite or random.")
    ] = "dp",
    operator: Annotated[
        str, typer.Option(help="How values are copied: clip, clip_norm, full or magnitude.")
    ] = "clip",
    png: Annotated[Path | None, typer.Option(help="Draw the matching here (.png).")] = None,
    as_json: AsJson = False,
) -> None:
    """Weights for TARGET from SOURCE, a network of another architecture (DPIAT)."""
    from zoo_search.tables import show
    from zoo_search.zoo.transfer import transfer_by_name

    done = transfer_by_name(source, target, out, job, matching, operator, png)
    columns = {"target": "target", "target_shape": "shape", "source": "source",
               "source_shape": "shape", "kind": "kind", "score": "score #", "copied": "copied #",
               "total": "of #", "reason": "left, because"}  # fmt: skip
    title = f"{source} → {target}: {done}, written to {out}"
    show(title, done.rows(), columns, as_json=as_json)


@app.command()
def export(
    winner: Annotated[
        Path, typer.Argument(help="Folder of a winner, such as runs/digits/winners/0.")
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx into the folder.")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="Write model.pt2 (torch.export).")] = False,
) -> None:
    """Export a winner for other runtimes."""
    from zoo_search.export import export_all

    for path in export_all(winner, onnx=onnx, torch_export=torch):
        print(path)


@app.command()
def dashboard(
    directory: Annotated[str, typer.Argument(help="Run directory, such as runs/digits.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """The ranking of the candidates, and score against GMACs, in a browser (optuna-dashboard)."""
    from zoo_search.dashboard import serve

    serve(directory, port, say=partial(print, flush=True))


@app.command()
def submit(
    job: Job,
    address: Annotated[str, typer.Option(help="Ray dashboard of the cluster: http://HEAD:8265.")],
    directory: Dir = None,
) -> None:
    """Run a job on a Ray cluster and follow its log."""
    from zoo_search.jobs import submit as submit_job

    raise typer.Exit(submit_job(job, address, directory, say=print))


@app.command()
def doctor(address: Address = None, as_json: AsJson = False) -> None:
    """What this machine or cluster has, what is wrong, and what to do."""
    from zoo_search.doctor import examine
    from zoo_search.tables import show

    checks = [check.to_dict() for check in examine(address)]
    columns = {"name": "", "found": "found", "state": "state", "cure": "what to do"}
    show("zoo-search doctor", checks, columns, as_json=as_json)
    raise typer.Exit(2 if any(check["state"] == "bad" for check in checks) else 0)


@zoo_app.command("list")
def zoo_list(job: Job, as_json: AsJson = False) -> None:
    """Name, family, parameters, GMACs, nodes, weights and licence of every model."""
    from zoo_search.tables import show
    from zoo_search.zoo import list_zoo, load_zoo

    columns = {
        "name": "name", "family": "family", "params": "parameters #", "gmacs": "GMACs #",
        "nodes": "nodes #", "weights": "weights", "license": "licence", "problem": "problem",
    }  # fmt: skip
    show("The zoo", [asdict(row) for row in list_zoo(load_zoo(job))], columns, as_json=as_json)


@zoo_app.command("inspect")
def zoo_inspect(
    job: Job,
    name: Annotated[str, typer.Argument(help="Name of a model in the run file's zoo.")],
    as_json: AsJson = False,
) -> None:
    """The nodes and cuts of one model, and why other places are no cuts."""
    from zoo_search.tables import show
    from zoo_search.zoo import inspect_model, load_zoo
    from zoo_search.zoo.listing import detail_rows

    columns = {
        "index": "cut #", "name": "ends with", "params": "parameters #", "macs": "MACs #",
        "layout": "layout", "channels": "channels #", "grid": "grid", "prefix_tokens": "prefix #",
        "streams": "streams #", "why": "no cut, because",
    }  # fmt: skip
    detail = inspect_model(load_zoo(job).model(name))
    show(name, detail_rows(detail), columns, as_json=as_json)
    if detail.row.problem:
        raise UserError(detail.row.problem)


@zoo_app.command("pretrain")
def zoo_pretrain(
    job: Job,
    name: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Train the models whose weights are pretrained_on:DATASET, once; they are cached."""
    from zoo_search import engine
    from zoo_search.tables import show
    from zoo_search.zoo import pretrain

    engine.connect(address)
    done = pretrain(job, name or None)
    columns = {"name": "name", "dataset": "trained on", "test_accuracy": "test accuracy #",
               "epochs": "epochs #", "seconds": "seconds #", "cached": "was cached"}  # fmt: skip
    show("Pre-training", [row.to_dict() for row in done.values()], columns, as_json=as_json)


def main() -> None:
    """Run the command line; what a user can mend is one paragraph and exit code 2.

    Modules in the working directory can be named in run files, as with ``python -m``. They come
    last, so that none hides an installed one.
    """
    sys.path.append(str(Path.cwd()))
    try:
        app()
    except UserError as error:
        console.print("error:", style="bold red", end=" ")
        mine = getattr(error, "cause", error)  # Ray wraps what a worker raised in a stack trace
        console.print(str(mine), soft_wrap=True, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("\nstopped; finished steps are kept, the same command goes on from there")
        sys.exit(130)
