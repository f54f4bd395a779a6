"""Plain architectures and changed winners through a real Ray Train, with their hooks' reports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import zoo_search as zs
from zoo_search import dpiat
from zoo_search.config import load_job
from zoo_search.data import open_dataset
from zoo_search.errors import UserError
from zoo_search.finetune import choose, drive, step
from zoo_search.finetune.entry import Entry
from zoo_search.finetune.networks import networks
from zoo_search.finetune.train import accuracy
from zoo_search.hooks import Context
from zoo_search.reassembly import BlockRef, Recipe
from zoo_search.store import RunStore
from zoo_search.zoo import load_zoo
from zoo_search.zoo.load import blank

SIZE = 32
MIXED = Recipe((BlockRef("a", 0, 2), BlockRef("b", 4, 8)))
HALVES: list[str] = []


def halve(module: torch.nn.Module, context: Context) -> dict[str, Any]:
    """A user's hook: it makes new heads smaller."""
    HALVES.append(context.role)
    for piece in context.pieces:
        if piece.name == "head":
            piece.module.get_parameter("weight").mul_(0.5)
    return {"factor": 0.5}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    entries = {}
    for name, arch in {"a": "resnet10t", "b": "mobilenetv3_small_050"}.items():
        weights = folder / f"{name}.safetensors"
        save_file(timm.create_model(arch).state_dict(), weights)
        entries[name] = {"arch": arch, "weights": str(weights), "license": "mit"}
    zs.register_hook("test_halve")(halve)
    return {
        "name": "x",
        "input_size": SIZE,
        "zoo": entries,
        "dataset": {"name": "digits", "per_class": 5},
        "init": [
            {"hook": "dpiat", "roles": ["zoo", "plain", "variant"]},
            {"hook": "least_squares", "roles": ["candidate"]},
            {"hook": "test_halve", "roles": ["candidate"]},
        ],
        "finetune": {
            "epochs": 1,
            "protocol": ["frozen"],
            "plain": {"x": {"arch": "mobilenetv3_small_075"}},
            "variants": {"larger": {"input_size": 48}},
        },
    }


@pytest.fixture(scope="module")
def done(job: dict[str, Any], ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    store = RunStore(tmp_path_factory.mktemp("run") / "run")
    return store, tune(job, store)


def tune(job: dict[str, Any], store: RunStore) -> list[step.Result]:
    config = load_job(job)
    zoo, dataset = load_zoo(config), open_dataset(config.dataset, config.seed)
    winner = Entry("reassembly 1", "reassembly", MIXED, {"naswot": 2.0})
    entries = [winner, *choose._plain(config, zoo)]
    return step.run(entries, zoo, dataset, config, store)


def test_every_trial_keeps_the_reports_of_its_hooks(done: Any, job: dict[str, Any]) -> None:
    store, results = done
    assert [(r.name, r.role, r.of) for r in results] == [
        ("reassembly 1", "reassembly", None),
        ("x", "plain", None),
        ("larger", "variant", "reassembly 1"),
    ]
    hooks = {r.name: [(report["hook"], report["role"]) for report in r.init] for r in results}
    assert hooks == {
        "reassembly 1": [("least_squares", "candidate"), ("test_halve", "candidate")],
        "x": [("dpiat", "plain")],
        "larger": [("dpiat", "variant")],
    }
    assert results[0].init[1]["facts"] == {"factor": 0.5}
    # A plain architecture has no fitted head to start with: all epochs are of the last protocol.
    assert [list(r.protocols) for r in results] == [["frozen"]] * 3
    assert results[2].init[0]["facts"]["source"] == "reassembly 1"
    written = store.read_json("winners.json")["results"]
    assert [r["init"] for r in written] == [list(r.init) for r in results]
    card = store.read_text("winners/2/README.md")
    assert "a changed form of the network 'reassembly 1'" in card
    assert "dpiat from reassembly 1 (similarity 1.000), 100 % of the values" in card


def test_a_plain_trial_starts_from_the_most_similar_model(done: Any, job: dict[str, Any]) -> None:
    """FROZEN-TUNING leaves the blocks as they were: they are what DPIAT made of the donor."""
    store, results = done
    config = load_job(job)
    zoo = load_zoo(config)
    module = blank(config.finetune.plain["x"], "x", config, "finetune.plain")
    source = dpiat.rank_sources(module, zoo)[0][0]
    assert results[1].init[0]["facts"]["source"] == source == "b"
    dpiat.transfer(zoo["b"].module, module)
    blocks = {n: t for n, t in load_file(Path(store.path("winners/1/model.safetensors"))).items()
              if n.startswith("blocks")}  # fmt: skip
    expected = {id(t): t for t in module.state_dict().values()}
    values = list(expected.values())
    assert all(
        any(t.shape == v.shape and torch.equal(t, v) for v in values) for t in blocks.values()
    )
    assert zs.load(store.path("winners/1")).recipe == Recipe.whole("x", 12)


def test_a_plain_trial_may_have_weights(job: dict[str, Any], tmp_path: Path) -> None:
    """Then it is started and trained as the single models of the zoo are."""
    plain = {"y": {**job["zoo"]["b"]}, "z": {"arch": "mobilenetv3_small_050"}}
    config = load_job(job | {"finetune": {"plain": plain}})
    zoo = load_zoo(config)
    y, z = choose._plain(config, zoo)
    assert y.models["y"].weights_hash == zoo["b"].weights_hash
    made = networks([y, z], zoo, open_dataset(config.dataset, 0), config)
    assert [network.fitted for network in made] == [True, False]
    assert [step._training(network, config)[1] for network in made] == [
        ("frozen", "full"),
        ("full",),
    ]
    assert step._training(made[1], config)[0].epochs("full") == 30
    wrong = {"y": {"arch": "mobilenetv3_small_050", "weights": str(tmp_path / "none.safetensors")}}
    with pytest.raises(UserError, match=r"^finetune\.plain\.y\.weights"):
        choose._plain(load_job(job | {"finetune": {"plain": wrong}}), zoo)


def test_a_changed_winner_is_loaded_and_scores_what_was_reported(done: Any, job: Any) -> None:
    store, results = done
    net = zs.load(store.path("winners/2"))
    assert net.input_size == (3, 48, 48)
    winner = load_file(Path(store.path("winners/0/model.safetensors")))
    own = net.state_dict()
    assert all(torch.equal(t, own[n]) for n, t in winner.items() if n.startswith("blocks"))
    dataset = open_dataset(load_job(job).dataset, 0)
    test = dataset.select("test").load(
        net.transform.size, net.transform.interpolation, net.transform.crop_pct
    )
    found = accuracy(net, test.images, test.labels, net.transform)
    assert found == pytest.approx(results[2].protocols["frozen"]["test_accuracy"], abs=0.002)
    # The head learned on from the winner's, which one epoch of small steps does not leave far.
    heads = [state["head.weight"].flatten() for state in (own, winner)]
    assert torch.cosine_similarity(*heads, dim=0) > 0.9
    assert not torch.equal(*heads)


def test_only_untouched_winners_are_taken_over(done: Any, tmp_path: Path) -> None:
    store, results = done
    copy = RunStore(tmp_path / "copy")
    shutil.copytree(Path(store.url) / "winners", Path(copy.url) / "winners")
    assert step._earlier(copy) == {r.task: r.folder for r in results}
    edited, torn = (Path(copy.path(f"winners/{i}/model.safetensors")) for i in (0, 1))
    state = load_file(edited)
    save_file({**state, "head.bias": state["head.bias"] + 1}, edited)
    torn.write_bytes(torn.read_bytes()[:1000])
    assert step._earlier(copy) == {results[2].task: "winners/2"}


def fails(module: torch.nn.Module, context: Context) -> None:
    """A user's hook with a mistake."""
    raise KeyError("weight")


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("test_idle", r"^finetune\.variants\.larger: .*test_idle changed nothing"),
        ("test_fails", r"'test_fails' failed on larger \(variant\): KeyError: 'weight' \(test_tri"),
    ],
)
def test_a_variant_that_cannot_be_filled_is_found_before_the_training(
    job: dict[str, Any], tmp_path: Path, init: str, message: str
) -> None:
    zs.register_hook("test_fails")(fails)
    zs.register_hook("test_idle")(lambda module, context: None)
    store = RunStore(tmp_path / "run")
    variants = {"larger": {"input_size": 48, "init": init}}
    with pytest.raises(UserError, match=message):
        tune(job | {"finetune": {**job["finetune"], "variants": variants}}, store)
    assert store.list("") == []


@pytest.mark.slow
def test_one_more_variant_trains_nothing_else(
    done: Any, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, results = done
    store.remove("finetune")  # as the pipeline does at the end of the step
    trained: list[str] = []
    train_all = drive.train_all

    def spy(tasks: Any, where: RunStore) -> None:
        trained.extend(t.name for t in tasks if not where.exists(f"finetune/{t.key}"))
        train_all(tasks, where)

    monkeypatch.setattr(step, "train_all", spy)
    variants = {**job["finetune"]["variants"], "again": {"of": "x", "input_size": 40}}
    more = tune(job | {"finetune": {**job["finetune"], "variants": variants}}, store)
    assert trained == ["again"]
    assert [r.protocols for r in more[:3]] == [r.protocols for r in results]
    assert more[3].of == "x"
    assert sorted(store.list("winners")) == ["0", "1", "2", "3"]
    assert set(HALVES) == {"candidate"}
