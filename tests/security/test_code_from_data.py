"""A folder, a header or a table that names code: it is refused by name, and nothing runs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import timm
import torch
import yaml
from attacks import Command, Touch
from safetensors.torch import save_file

import zoo_search as zs
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.export import save_folder
from zoo_search.networks import Recipe
from zoo_search.zoo import load_zoo
from zoo_search.zoo.build import build
from zoo_search.zoo.trust import architecture_of

JOBS = Path(__file__).parents[2] / "jobs"
ARCH = "lcnet_050"


@pytest.fixture(scope="module")
def winner(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an exported network of one model."""
    job = {
        "name": "x",
        "input_size": 32,
        "zoo": {"a": {"arch": ARCH, "weights": None}},
        "dataset": "digits",
        "init": "random",
    }
    zoo = load_zoo(job)
    recipe = Recipe.whole("a", len(zoo["a"].graph))
    net = zs.assemble(recipe, zoo, init="random", num_classes=2)
    folder = tmp_path_factory.mktemp("made") / "0"
    save_folder(net, folder, recipe=recipe, zoo=zoo, classes=("x", "y"), metadata={})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(winner: dict[str, bytes], tmp_path: Path) -> Path:
    place = tmp_path / "winner"
    place.mkdir()
    for name, data in winner.items():
        (place / name).write_bytes(data)
    return place


def name_parent(folder: Path, **facts: object) -> None:
    """Let a winner's folder say something else of how its parent is built."""
    config = json.loads((folder / "config.json").read_text())
    config["parents"]["a"].update(facts)
    del config["checks"]  # as who has a hand in it would
    (folder / "config.json").write_text(json.dumps(config))


def described(path: Path, said: Mapping[str, object]) -> Path:
    """Write a weights file whose header says how its network is built."""
    save_file(timm.create_model(ARCH).state_dict(), path, {"zoo_search": json.dumps(said)})
    return path


def calling(marker: Path) -> dict[str, object]:
    """Return an architecture that is a command."""
    return {
        "arch": "module:subprocess:check_output",
        "kwargs": {"args": ["touch", str(marker)]},
    }


def test_a_winners_folder_calls_nothing(command: Command, folder: Path, marker: Path) -> None:
    name_parent(folder, **calling(marker))
    words = ("subprocess:check_output", str(marker), "config.json", "--trust")
    assert command("export", folder, "--torch").refused(*words)
    out = folder.parent / "out.safetensors"
    assert command("transfer", folder, ARCH, "--out", out).refused(*words)
    assert command("transfer", ARCH, folder, "--out", out).code == 2
    with pytest.raises(UserError, match="'subprocess:check_output'"):
        zs.load(folder)
    assert not marker.exists()
    assert not out.exists()


def test_a_header_calls_nothing(command: Command, marker: Path, tmp_path: Path) -> None:
    file = described(tmp_path / "w.safetensors", calling(marker))
    out = tmp_path / "out.safetensors"
    for words in ((file, ARCH), (f"{ARCH}@{file}", file)):
        ended = command("transfer", *words, "--out", out)
        assert ended.refused("subprocess:check_output", str(file), "--trust")
    assert not marker.exists()


@pytest.mark.parametrize("said", ["[]", "{", "3", '{"arch": 3}', '{"kwargs": []}', "[" * 9999])
def test_a_header_of_another_shape_is_refused(command: Command, tmp_path: Path, said: str) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(1)}, file, {"zoo_search": said})
    assert command("transfer", file, ARCH, "--out", tmp_path / "o.safetensors").refused(str(file))


def test_a_header_says_nothing_but_the_architecture(command: Command, tmp_path: Path) -> None:
    """It does not name other weights, or a source, or what is left unchecked."""
    said = {"arch": ARCH, "weights": "/etc/hostname", "key_order": True, "license": "mine"}
    file, out = described(tmp_path / "w.safetensors", said), tmp_path / "out.safetensors"
    assert command("transfer", file, ARCH, "--out", out).code == 0
    assert out.exists()


FOREIGN = [
    "hf-hub:org/name",
    "hf_hub:org/name",
    "local-dir:/tmp/x",
    "a/b",
    "../lcnet_050",
    "lcnet_050 ",
]


@pytest.mark.parametrize("arch", FOREIGN)
def test_places_are_no_names_of_timm(command: Command, folder: Path, arch: str) -> None:
    name_parent(folder, arch=arch)
    assert command("export", folder, "--torch").refused(arch, "no name of timm's")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("checkpoint_path", "FILE"), ("pretrained", True), ("cache_dir", "FILE"),
        ("pretrained_cfg", {"file": "FILE"}), ("pretrained_cfg_overlay", {"file": "FILE"}),
        ("features_only", True), ("scriptable", True), ("feature_cls", "hook"),
        ("act_layer", "FILE"), ("act_layer", "module:os:system"), ("global_pool", {"a": 1}),
        ("embed_dim", [["FILE"]]),
    ],
)  # fmt: skip
def test_arguments_that_open_files_are_refused(
    command: Command, folder: Path, tmp_path: Path, name: str, value: object
) -> None:
    """Even a file of good weights: it would get past the hash of those that the folder has."""
    file = tmp_path / "w.pth"
    torch.save(timm.create_model(ARCH, num_classes=1000).state_dict(), file)
    value = json.loads(json.dumps(value).replace("FILE", str(file)))
    name_parent(folder, kwargs={"num_classes": 1000, name: value})
    assert command("export", folder, "--torch").refused(name, "config.json")


def test_no_run_file_lets_timm_open_weights_past_the_hash(command: Command, tmp_path: Path) -> None:
    good, other = tmp_path / "good.safetensors", tmp_path / "other.pth"
    save_file(timm.create_model(ARCH).state_dict(), good)
    torch.save(timm.create_model(ARCH).state_dict(), other)
    entry = {"arch": ARCH, "weights": str(good), "kwargs": {"checkpoint_path": str(other)}}
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump({"name": "x", "zoo": {"a": entry}, "dataset": "digits"}))
    assert command("zoo", "list", job).refused("zoo.a.kwargs", "checkpoint_path", "sha256")


def test_a_recipe_with_yaml_that_calls_is_refused(
    command: Command, folder: Path, marker: Path
) -> None:
    (folder / "recipe.yaml").write_text(f"!!python/object/apply:os.system ['touch {marker}']")
    assert command("export", folder, "--torch").refused("recipe.yaml", "python/object/apply")
    assert not marker.exists()


def test_a_checkpoint_that_is_a_pickle_is_refused(
    command: Command, marker: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "w.pth", tmp_path / "out.safetensors"
    for data in (Touch(marker), {"state_dict": {"a": torch.zeros(1)}, "args": Touch(marker)}):
        torch.save(data, file)
        ended = command("transfer", f"{ARCH}@{file}", ARCH, "--out", out)
        assert ended.refused("w.pth is refused", "would call")
    file.write_bytes(pickle.dumps(Touch(marker)))
    assert command("transfer", f"{ARCH}@{file}", ARCH, "--out", out).refused("w.pth")
    assert not marker.exists()


def test_a_recipe_in_a_table_names_no_file(tmp_path: Path) -> None:
    """``candidates.parquet`` may hold any JSON; a text is not read as the path of a recipe."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from zoo_search.reassembly import step

    kinds = {"id": 0, "params": 1, "macs": 1, "seconds": 0.0, "kind": "zoo", "state": "complete"}
    row = {**kinds, "reason": "", "init": "[]", "recipe": json.dumps("/etc/hostname")}
    table = pa.table({name: [value] for name, value in row.items()})
    table = table.replace_schema_metadata({"zoo_search": '{"proxies": []}'})
    pq.write_table(table, tmp_path / "candidates.parquet")
    with pytest.raises(UserError, match="'/etc/hostname', which is no mapping"):
        step.read(RunStore(tmp_path))


def test_who_trusts_gets_what_is_named(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_networks.py").write_text(
        "import timm\n\n\ndef factory(width):\n"
        "    return timm.create_model('lcnet_050', num_classes=width)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    said = {"arch": "module:own_networks:factory", "kwargs": {"width": 1000}}
    name_parent(folder, **said)
    x = torch.zeros(1, 3, 32, 32)
    assert zs.load(folder, trust=True)(x).shape == (1, 2)
    assert command("export", folder, "--torch").refused("own_networks:factory")
    file, out = described(tmp_path / "w.safetensors", said), tmp_path / "out.safetensors"
    assert command("transfer", file, folder, "--out", out).code == 2
    assert command("transfer", file, folder, "--out", out, "--trust").code == 0
    assert out.exists()


LEGITIMATE = [
    ("vit_tiny_patch16_224", {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2,
                              "num_heads": 4, "drop_path_rate": 0.1, "num_classes": 3,
                              "global_pool": "avg", "class_token": False, "act_layer": "gelu"}),
    ("convnext_tiny", {"dims": [24, 48, 96, 192], "depths": [1, 1, 1, 1], "conv_mlp": False}),
    ("regnetx_002", {"drop_rate": 0.1, "in_chans": 1}),
    ("resnet18", {"stem_width": 16, "channels": [24, 48, 96, 192], "act_layer": "silu"}),
    ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 4, "embed_dim": 24,
                                      "depths": [1, 1], "num_heads": [2, 4]}),
    ("mixer_s32_224", {"img_size": 64, "drop_rate": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "kwargs"), LEGITIMATE)
def test_what_people_write_is_allowed_and_builds(arch: str, kwargs: dict[str, object]) -> None:
    told = json.loads(json.dumps({"arch": arch, "kwargs": kwargs}))
    build(*architecture_of(told, "It", trust=False), "zoo.x")


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.stem)
def test_winners_of_the_jobs_that_come_along_load_without_trust(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    for name, entry in config.get("zoo", {}).items():
        architecture_of(entry, name, trust=False)
