"""Provoke the mistakes that users make most and write down what they are told.

python benchmarks/error_messages.py --report docs/errors.md
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

BASE: dict[str, Any] = {"name": "pets", "zoo": {"net": {"arch": "resnet18"}}, "dataset": "digits"}


class Malicious:
    """A pickle that runs a command when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch pwned",))


def double(module: Any, context: Any) -> None:
    """Double every weight: an init hook that goes too far."""
    for parameter in module.parameters():
        parameter.mul_(2)


def fails(module: Any, context: Any) -> None:
    """Ask for an option that is not there: an init hook with a mistake."""
    context.options["scale"]


def load(entry: dict[str, Any]) -> None:
    """Load a zoo of one model."""
    from zoo_search.zoo import load_zoo

    load_zoo(BASE | {"zoo": {"net": entry}})


def assemble_with(hook: Callable[..., Any], weights: Path) -> None:
    """Assemble two nodes of a ResNet under an init hook."""
    from zoo_search.networks import assemble
    from zoo_search.zoo import load_zoo

    zoo = load_zoo(BASE | {"zoo": {"net": {"arch": "resnet10t", "weights": str(weights)}}})
    assemble({"blocks": [{"model": "net", "start": 0, "stop": 2}]}, zoo, hook, num_classes=3)


def open_images(config: dict[str, Any]) -> None:
    """Open a data set and decode its training images."""
    from zoo_search.config import DatasetConfig
    from zoo_search.data import open_dataset

    open_dataset(DatasetConfig(**config)).select("train").load((16, 16))


def pack_into(source: Path, out: Path) -> None:
    """Write an image folder as tar shards."""
    from zoo_search.config import DatasetConfig
    from zoo_search.data.pack import pack

    pack(DatasetConfig(name="folder", path=str(source), max_bad=1), out)


def cases(folder: Path) -> dict[str, Callable[[], object]]:
    """Return each mistake as a call that raises; files are made inside ``folder``."""
    import timm
    import torch
    import yaml
    from PIL import Image
    from safetensors.torch import save_file

    from zoo_search.cli.transfer import transfer
    from zoo_search.config import load_job
    from zoo_search.hooks import as_hooks
    from zoo_search.similarities import ModelCuts, SimilarityTable
    from zoo_search.similarities.given import read_given

    job = folder / "pets.yaml"
    job.write_text(yaml.safe_dump(BASE | {"partition": {"restart": 9}}), encoding="utf-8")
    weights = folder / "resnet10t.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t").state_dict(), weights)
    evil = folder / "evil.pth"
    torch.save({"weight": Malicious()}, evil)
    for name in ("cat", "dog"):
        (folder / "pets" / name).mkdir(parents=True)
        (folder / "empty" / name).mkdir(parents=True)
        for index in range(6):
            noise = torch.randint(0, 255, (16, 16, 3), dtype=torch.uint8).numpy()
            Image.fromarray(noise).save(folder / "pets" / name / f"{index}.png")
    Image.new("RGB", (8, 8)).save(folder / "empty" / "cat" / "0.png")
    for name in ("train/cat", "train/dog", "extra"):
        (folder / "both" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "both" / name / "0.png")
    (folder / "loop" / "cat").mkdir(parents=True)
    (folder / "loop" / "cat" / "more").symlink_to("..")
    for index in range(3):
        (folder / "pets" / "dog" / f"{index}.png").write_bytes(b"not an image")
    pack_into(folder / "pets", folder / "shards")
    (folder / "cut").mkdir()
    shard = (folder / "shards" / "train-000000.tar").read_bytes()
    (folder / "cut" / "train-000000.tar").write_bytes(shard[:5000])
    table = folder / "similarity.parquet"
    SimilarityTable({"vit": ModelCuts(["image", "blocks.0"], [5], [6])}, [[1, 0], [0, 1]]).save(
        table
    )
    return {
        "unknown key": lambda: load_job(job),
        "unknown architecture": lambda: load({"arch": "resnet81"}),
        "wrong shape": lambda: load(
            {"arch": "resnet10t", "kwargs": {"num_classes": 7}, "weights": str(weights)}
        ),
        "wrong hash": lambda: load(
            {"arch": "resnet10t", "weights": str(weights), "sha256": "0" * 64}
        ),
        "malicious pickle": lambda: load({"arch": "resnet10t", "weights": str(evil)}),
        "missing folder": lambda: open_images({"name": "folder", "path": str(folder / "nowhere")}),
        "empty class": lambda: open_images({"name": "folder", "path": str(folder / "empty")}),
        "splits or classes": lambda: open_images({"name": "folder", "path": str(folder / "both")}),
        "a loop of links": lambda: open_images({"name": "folder", "path": str(folder / "loop")}),
        "undecodable image": lambda: open_images({"name": "folder", "path": str(folder / "pets")}),
        "a shard that is cut short": lambda: open_images(
            {"name": "webdataset", "path": str(folder / "cut")}
        ),
        "a pack into a folder of other things": lambda: pack_into(
            folder / "pets", folder / "empty"
        ),
        "a similarity table of another zoo": lambda: read_given(str(table), BASE["zoo"]),
        "no weights, and nobody to give some": lambda: load({"arch": "resnet10t", "weights": None}),
        "unknown init hook": lambda: as_hooks(["dpait"]),
        "a hook that changes pre-trained weights": lambda: assemble_with(double, weights),
        "an option that a hook does not have": lambda: as_hooks(
            {"hook": "dpiat", "options": {"matchng": "dp"}}
        ),
        "a hook that fails": lambda: assemble_with(fails, weights),
        "a transfer onto its own source": lambda: transfer(
            f"resnet10t@{weights}", "resnet14t", weights
        ),
        "a variant of nothing": lambda: load_job(
            BASE | {"finetune": {"variants": {"larger": {"of": "reassembly 99", "input_size": 96}}}}
        ),
        "no network": lambda: load({"arch": "resnet18", "weights": "timm"}),
        "no network, Hugging Face": lambda: load(
            {"arch": "resnet18", "weights": "hf-hub:acme/own-resnet18"}
        ),
    }


def commands(folder: Path) -> dict[str, list[str]]:
    """Return commands as users type them in ``folder``; what they bring is made there."""
    import numpy as np
    import timm
    import torch
    import yaml
    from PIL import Image

    def job(name: str, **sections: object) -> list[str]:
        text = yaml.safe_dump(BASE | {"input_size": 64} | sections)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        return ["run", f"{name}.yaml"]

    def zoo(name: str, **entry: object) -> list[str]:
        job(name, zoo={"net": {"arch": "resnet10t", **entry}})
        return ["zoo", "list", f"{name}.yaml"]

    (folder / "twice.yaml").write_text(
        "name: pets\ndataset: digits\nzoo:\n  net: {arch: resnet18}\n  net: {arch: resnet34}\n"
    )
    (folder / "named.yaml").write_text(
        "name: pets\ndataset: digits\nzoo:\n  on: {arch: resnet18}\n"
    )
    state = timm.create_model("resnet10t").state_dict()
    inner = {f"model.{name}": tensor for name, tensor in state.items()}
    torch.save(
        {"epoch": 3, "state_dict": {**inner, "criterion.weight": torch.ones(7)}},
        folder / "lightning.ckpt",
    )
    torch.save(timm.create_model("resnet10t", num_classes=7).state_dict(), folder / "seven.pth")
    torch.save({**state, "bn1.weight": state["bn1.weight"] * torch.nan}, folder / "nan.pth")
    half = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    torch.save({"model": half, "model_ema": state}, folder / "half.pth")
    beside = {
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "best": np.float64(0.9),
        "when": datetime.datetime(2024, 1, 2),
        "order": OrderedDict(a=np.arange(3)),
    }
    torch.save({"state_dict": state, **beside}, folder / "harmless.pth")
    (folder / "nets.py").write_text(
        "import timm, torch\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return timm.create_model('resnet10t')\n"
    )
    draw = np.random.default_rng(0)
    for name, count in (("cat", 4), ("dog", 4), ("caf\udce9", 90)):
        for split in ("train", "val", "test"):
            place = folder / "three" / split / name
            place.mkdir(parents=True)
            for index in range(count):
                noise = draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(noise).save(place / f"{index}.png")
    (folder / "linked").mkdir()
    for name in ("cat", "dog"):
        (folder / "linked" / name).symlink_to(f"../three/train/{name}")
    (folder / "jobs").mkdir()
    moved = BASE | {"zoo": {"net": {"arch": "resnet10t", "weights": "half.pth"}}}
    (folder / "jobs" / "moved.yaml").write_text(yaml.safe_dump(moved), encoding="utf-8")
    for name in ("cat", "dog"):
        (folder / "deep" / name).mkdir(parents=True)
        for split in ("Training", "Testing"):
            (folder / "scans" / split / name).mkdir(parents=True)
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(24):
            photo = draw.integers(0, 200, (32, 32, 3)) + (50 if name == "dog" else 0)
            image = Image.fromarray(photo.astype(np.uint8))
            image.save(folder / "photos" / name / f"{index}.png")
        for index in range(4):
            grey = draw.integers(0, 4096, (32, 32), dtype=np.uint16)
            Image.fromarray(grey).save(folder / "deep" / name / f"{index}.tif")
            for split in ("Training", "Testing"):  # the same images in both
                image = Image.fromarray((grey // 16).astype(np.uint8))
                image.save(folder / "scans" / split / name / f"{index}.png")
    weights = "resnet10t.safetensors"
    return {
        "a key that is given twice": ["run", "twice.yaml"],
        "a name that YAML takes for something else": ["run", "named.yaml"],
        "batches of one image": job("one", finetune={"batch_size": 1}),
        "more workers than a step has pairs of images": job("shared", finetune={"workers": 9}),
        "a class with too few images for a test": job(
            "few",
            dataset={"name": "folder", "path": "deep", "per_class": 4, "value_range": [0, 4095]},
            search={"batch_size": 4},
        ),
        "a checkpoint of Lightning": zoo("lightning", weights="lightning.ckpt"),
        "a checkpoint with classes of its own": zoo("seven", weights="seven.pth"),
        "half precision, and averaged weights beside it": zoo("half", weights="half.pth"),
        "the averaged ones": zoo("averaged", weights="half.pth", state="ema"),
        "harmless things beside the weights": zoo("harmless", weights="harmless.pth"),
        "a factory that brings its own weights": zoo(
            "own", arch="module:nets:build", weights="own"
        ),
        "a path from the working directory": ["zoo", "list", "jobs/moved.yaml"],
        "weights that are not numbers": zoo("nan", weights="nan.pth"),
        "a network for grey images": zoo("grey", weights=weights, kwargs={"in_chans": 1}),
        "images of 12 bits": ["init", "deep", "--out", "deep.yaml"],
        "three splits, a name that is no UTF-8, classes of very different size": [
            "init", "three", "--out", "three.yaml",
        ],
        "classes that are links": ["init", "linked", "--out", "linked.yaml"],
        "the same images in two splits": ["init", "scans", "--out", "scans.yaml"],
        "a value on the command line that does not fit": [
            "run", "scans.yaml", "--set", "partition.k=none",
        ],
        "models that are ranked without a run file": [
            "rank", "--images", "photos", f"resnet10t@{weights}", "--input-size", "64",
        ],
        "a winner that is not there": ["export", "file:///nowhere/winners/0", "--onnx"],
        "images without a winner": ["predict", "pets", "pets/cat/0.png"],
    }  # fmt: skip


def say(folder: Path, arguments: list[str]) -> str:
    """Return what a command prints, as a block of Markdown."""
    code = "from zoo_search.cli.app import main; main()"
    package = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": package, "COLUMNS": "100", "NO_COLOR": "1"},
    )  # fmt: skip
    if "Traceback" in done.stderr:
        raise SystemExit(f"{arguments} ends in a stack trace:\n{done.stderr}")
    lines = [line for text in (done.stderr, done.stdout) for line in text.splitlines()]
    progress = re.compile(r"  .*([:,] \d+ s\b|: \d+/\d+).*")
    told = [line.rstrip() for line in lines if not progress.fullmatch(line)]
    return "\n".join(["```", f"$ zoo-search {' '.join(arguments)}", *told, "```"])


def main() -> None:
    """Write the messages as Markdown."""
    from zoo_search.core.errors import UserError

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path)
    report = parser.parse_args().report
    lines = ["# What users are told", "", f"Made by `python {Path(__file__).parent.name}/"
             f"{Path(__file__).name} --report docs/errors.md`.", ""]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, provoke in cases(folder).items():
            try:
                provoke()
            except UserError as error:
                message = str(error).replace(f"{folder}/", "").replace(str(Path.home()), "~")
                lines += [f"**{title}**", "", f"> {message}", ""]
                print(f"{title}: {message}\n", flush=True)
        lines += ["## Commands, on what people bring", ""]
        for title, arguments in commands(folder).items():
            block = say(folder, arguments).replace(f"{folder}/", "").replace(str(folder), ".")
            lines += [f"**{title}**", "", block, ""]
            print(f"{title}\n{block}\n", flush=True)
        if (folder / "pwned").exists() or Path("pwned").exists():
            raise SystemExit("the malicious pickle ran")
    if report is not None:
        report.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
