"""Several trainings of each network: what each learns from, what chooses, what is told."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import ray
from safetensors.torch import load_file
from small_runs import MIXED, OTHER, Setting, race_here, train_here

import zoo_search as zs
from zoo_search.config import JobConfig
from zoo_search.core.store import RunStore
from zoo_search.data import VisionDataset
from zoo_search.finetune import step, tuning
from zoo_search.finetune.answers import answers_of, right_of
from zoo_search.finetune.entries import (
    Entry,
    ProtocolResult,
    Result,
    Training,
    Winners,
    best_first,
)
from zoo_search.finetune.race import hold
from zoo_search.finetune.race.study import Race
from zoo_search.finetune.starts import Starts
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import (
    Failure,
    read_predictions,
    write_predictions,
)
from zoo_search.report.verdict import verdict

pytestmark = pytest.mark.usefixtures("ray_cluster")
ENTRIES = [
    Entry("reassembly 1", "reassembly", MIXED, {}),
    Entry("reassembly 2", "reassembly", OTHER, {}),
]


@pytest.fixture(scope="module")
def trained() -> Iterator[list[TrainingTask]]:
    """Trainings are made in this process; the list holds those that were not taken over."""
    found: list[TrainingTask] = []

    def here(
        tasks: Sequence[TrainingTask], store: RunStore, config: Any, run: str
    ) -> dict[str, Any]:
        found.extend(task for task in tasks if not store.exists(f"finetune/{task.key}"))
        return dict(train_here(tasks, store, config, run))

    def racing(race: Race, tasks: int, store: RunStore, *rest: Any) -> None:
        there = set(store.list("race"))
        race_here(race, tasks, store)
        ended = [racer.task for racer in race.racers if racer.task.key not in there]
        found.extend(task for task in ended if store.exists(f"finetune/{task.key}"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "train_all", here)
        patch.setattr(hold, "run_race", racing)
        yield found


class Done(NamedTuple):
    """A run with two seeds, of which the best network was trained again on all images."""

    store: RunStore
    results: list[Result]
    tasks: list[TrainingTask]


@pytest.fixture(scope="module")
def done(
    setting: Setting, trained: list[TrainingTask], tmp_path_factory: pytest.TempPathFactory
) -> Done:
    store, results = run(setting, tmp_path_factory.mktemp("done"), retrain=True)
    return Done(store, results, list(trained))


def job_of(setting: Setting, **changes: object) -> JobConfig:
    told = {"seeds": 2, "finalists": 2, **changes}
    finetune = setting.job.finetune.model_copy(update=told)
    return setting.job.model_copy(update={"finetune": finetune})


def permuted(dataset: VisionDataset) -> VisionDataset:
    """The data set with the labels of its test images in another order."""
    index = dataset.index
    labels = index["label"].to_numpy().copy()
    test = np.flatnonzero(index["split"].to_numpy(zero_copy_only=False) == "test")
    labels[test] = labels[np.random.default_rng(0).permutation(test)]
    place = index.column_names.index("label")
    return replace(dataset, index=index.set_column(place, "label", pa.array(labels, pa.int32())))


def run(
    setting: Setting, folder: Path, dataset: VisionDataset | None = None, **changes: object
) -> tuple[RunStore, list[Result]]:
    store = RunStore(folder)
    job = job_of(setting, **changes)
    return store, step.run(ENTRIES, setting.zoo, dataset or setting.dataset, job, store)


def weights(store: RunStore) -> list[dict[str, Any]]:
    folders = sorted(store.list("winners"))
    return [load_file(store.path(f"winners/{f}/model.safetensors")) for f in folders]


def test_permuted_test_labels_change_no_choice_and_no_weight(
    setting: Setting, done: Done, tmp_path: Path
) -> None:
    store, results, _ = done
    other, others = run(setting, tmp_path, permuted(setting.dataset), retrain=True)
    assert [r.accuracy for r in results] != [r.accuracy for r in others]
    for mine, theirs in zip(weights(store), weights(other), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(bool((value == theirs[name]).all()) for name, value in mine.items())
    assert [r.name for r in best_first(results)] == [r.name for r in best_first(others)]
    told = [
        verdict(found, right_of(where, found), Winners.read(where).test_images)
        for where, found in ((store, results), (other, others))
    ]
    assert told[0].winner == told[1].winner
    assert told[0].text != told[1].text
    for mine, theirs in zip(results, others, strict=True):
        assert (mine.exported, bool(mine.retrained)) == (theirs.exported, bool(theirs.retrained))
        assert [t.kept for t in mine.trainings] == [t.kept for t in theirs.trainings]
        assert mine.recipe == theirs.recipe


def test_another_metric_and_class_weights_leave_the_test_labels_out_of_every_choice(
    setting: Setting, trained: list[TrainingTask], tmp_path: Path
) -> None:
    change = {"metric": "macro_f1", "class_weights": {"0": 3.0}, "seeds": 1}
    store, results = run(setting, tmp_path / "a", **change)
    other, others = run(setting, tmp_path / "b", permuted(setting.dataset), **change)
    assert [r.accuracy for r in results] != [r.accuracy for r in others]
    for mine, theirs in zip(weights(store), weights(other), strict=True):
        assert all(bool((value == theirs[name]).all()) for name, value in mine.items())
    assert [r.name for r in best_first(results)] == [r.name for r in best_first(others)]
    told = Winners.read(store)
    assert told.metric == "macro_f1"
    for raced in told.race:
        assert all(point.validation_score is not None for point in raced.seen)
    task = trained[-1]
    assert task.metric == "macro_f1"
    assert task.class_weights is not None
    assert task.class_weights[0] == pytest.approx(3 * task.class_weights[1])
    assert np.mean(task.class_weights) == pytest.approx(1.0)  # as many images of each class
    answers = answers_of(store, results)
    text = verdict(
        results, answers.right, told.test_images, metric="macro_f1", answers=answers
    ).text
    value = answers.score(best_first(results)[0].name, "macro_f1")
    assert f"reaches a macro F1 of {value:.1%} on {told.test_images:,} test images" in text


def test_each_training_has_a_seed_and_images_of_its_own(done: Done) -> None:
    store, results, tasks = done
    read = Winners.read(store)
    assert read.results == tuple(results)
    assert (read.train_images, read.validation_images) == (40, 10)
    judged = [task for task in tasks if task.fold is not None]
    assert {(t.name, t.seed, t.fold) for t in judged} == {
        (f"reassembly {n} seed {seed}", seed, seed) for n in (1, 2) for seed in (0, 1)
    }
    held = [ray.get(t.validation.data)[1][t.validation.at] for t in judged[:2]]  # type: ignore[union-attr]
    assert all(np.bincount(labels).tolist() == [1] * 10 for labels in held)
    assert len(held) == 2
    # Stitches and heads know nothing of the images that judge them.
    heads = [ray.get(t.net).head.weight for t in judged if t.recipe == MIXED]
    assert not bool((heads[0] == heads[1]).all())
    for result in results:
        curves = [[p.train_loss for p in t.protocols["frozen"].curve] for t in result.trainings]
        assert curves[0] != curves[1]
        kept = [t.kept for t in result.trainings]
        assert all(k is not None for k in kept)
        best = max(kept, key=lambda k: (k.validation_accuracy, -k.validation_loss))  # type: ignore[union-attr]
        if not result.retrained:
            assert kept[result.exported] == best


def test_what_is_exported_says_what_was_told(setting: Setting, done: Done) -> None:
    store, results, _ = done
    place, result = next((n, r) for n, r in enumerate(results) if not r.retrained)
    table = read_predictions(store, f"winners/{place}")
    test = setting.dataset.select("test")
    assert table.column("id").to_pylist() == test.ids
    assert table.column("label").to_pylist() == test.labels.tolist()
    accuracies = [
        float(np.mean(table.column(f"seed_{t.seed}").to_numpy() == test.labels))
        for t in result.trainings
    ]
    assert accuracies == pytest.approx([t.last.test_accuracy for t in result.trainings])
    assert result.accuracy == pytest.approx(np.mean(accuracies))
    assert right_of(store, [result])[result.name].shape == (2, len(test))
    net = zs.load(store.path(f"winners/{place}"))
    part = test.first(200).load(net.transform.view)
    said = net(net.transform.normalize(part.images)).argmax(dim=1).numpy()
    column = table.column(f"seed_{result.told[result.exported].seed}").to_numpy()[:200]
    assert np.mean(said == column) > 0.99


def test_the_best_is_trained_again_on_all_training_images(done: Done) -> None:
    _, results, tasks = done
    again = [task for task in tasks if task.fold is None]
    (chosen,) = {task.name.partition(" seed")[0] for task in again}
    assert chosen == best_first(results)[0].name
    assert [task.validation for task in again] == [None, None]
    assert all(len(task.train["frozen"].open()) == 50 for task in again)  # type: ignore[union-attr]
    mine = next(result for result in results if result.name == chosen)
    assert [t.seed for t in mine.retrained] == [0, 1]
    ends = [t.kept.protocol for t in mine.trainings if t.kept]
    assert list(mine.retrained[0].protocols)[-1] in ends
    assert mine.accuracy == np.mean([t.last.test_accuracy for t in mine.retrained])
    (other,) = (result for result in results if result.name != chosen)
    assert other.retrained == ()


def test_the_same_again_trains_nothing(
    setting: Setting, done: Done, trained: list[TrainingTask], tmp_path: Path
) -> None:
    shutil.copytree(done.store.url, tmp_path, dirs_exist_ok=True)
    store, count = RunStore(tmp_path), len(trained)
    store.remove("finetune")  # as the pipeline does at the end of the step
    _, same = run(setting, tmp_path, retrain=True)
    assert len(trained) == count
    without = [[replace(r, init=()) for r in found] for found in (done.results, same)]
    assert without[0] == without[1]  # how long the hooks took differs
    for mine, theirs in zip(weights(done.store), weights(store), strict=True):
        assert all(bool((value == theirs[name]).all()) for name, value in mine.items())
    store.remove("finetune")
    # Without training on all images the judged trainings are told, of which weights and predictions
    # were not kept: they are made again, and give what they gave before.
    _, judged = run(setting, tmp_path)
    again = {task.key for task in trained[count:]}
    (mine,) = (r for r in judged if {t.task for t in r.trainings} == again)
    before = next(r for r in done.results if r.name == mine.name)
    for now, then in zip(mine.trainings, before.trainings, strict=True):
        assert (now.kept, now.task) == (then.kept, then.task)
        assert now.last.test_accuracy == then.last.test_accuracy
    assert mine.retrained == ()


def test_a_task_is_made_from_its_seed_and_its_images(setting: Setting, tmp_path: Path) -> None:
    keys = []
    for changes in ({}, {"validation": 0.4}, {"validation": 0.0}):
        job = job_of(setting, **changes)
        made = Starts(setting.zoo, setting.dataset, job)
        both = made.with_all_seeds(made.first(ENTRIES))
        keys += [task.key for start in both for task in start.tasks]
    assert len(set(keys)) == 12
    one = job_of(setting, seeds=1)
    ((task,),) = (
        start.tasks for start in Starts(setting.zoo, setting.dataset, one).first(ENTRIES[:1])
    )
    assert (task.key, task.name) == (keys[0], "reassembly 1")


def test_hours_that_no_race_can_fill_are_told(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(setting, validation=0.0)
    starts = Starts(setting.zoo, setting.dataset, job)
    for hours, told in ((None, False), (2.0, True)):
        outcome = hold.hold_race(
            starts.first(ENTRIES), starts, job, RunStore(tmp_path), hours=hours
        )
        assert {start.entry.name for start in outcome.ahead} == {e.name for e in ENTRIES}
        assert ("no race fills the 2 hours" in capsys.readouterr().err) is told


def test_a_network_of_which_one_training_diverges_is_given_up(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(
        tasks: Sequence[TrainingTask], store: RunStore, config: Any, run: str
    ) -> dict[str, Any]:
        if not tasks:  # there are no variants
            return {}
        bad = next(task for task in tasks if task.recipe == OTHER and task.seed == 1)
        train_here([task for task in tasks if task is not bad], store, config, run)
        return {bad.key: Failure("the loss is nan", diverged=True)}

    monkeypatch.setattr(tuning, "train_all", here)
    store, results = run(setting, tmp_path)
    assert [result.name for result in results] == ["reassembly 1"]
    assert [(g.name, g.reason) for g in Winners.read(store).given_up] == [
        ("reassembly 2", "the loss is nan")
    ]


def test_the_best_of_each_role_goes_on_with_the_other_seeds(
    setting: Setting, done: Done, trained: list[TrainingTask], tmp_path: Path
) -> None:
    """As the validation images of the first seed have it, whatever the test images say."""
    count = len(trained)
    _, results = run(setting, tmp_path, finalists=1)
    firsts = {r.name: r.trainings[0].kept for r in done.results}
    better = min(
        firsts,
        key=lambda name: (
            -firsts[name].validation_accuracy,  # type: ignore[union-attr]
            firsts[name].validation_loss,
        ),
    )  # type: ignore[union-attr]
    assert {r.name: len(r.trainings) for r in results} == {
        name: 2 if name == better else 1 for name in firsts
    }
    assert len(trained) - count == 3
    assert best_first(results)[0].name == better


def test_where_one_cannot_be_trained_again_none_is_told_so(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Else a network that saw all training images would be compared with one that did not."""

    def here(
        tasks: Sequence[TrainingTask], store: RunStore, config: Any, run: str
    ) -> dict[str, Any]:
        bad = [task for task in tasks if task.fold is None and task.recipe == OTHER]
        train_here([task for task in tasks if task not in bad], store, config, run)
        return {task.key: Failure("the loss is nan", diverged=True) for task in bad}

    monkeypatch.setattr(tuning, "train_all", here)
    store, job = RunStore(tmp_path), job_of(setting, seeds=1, retrain=True)
    entries = [ENTRIES[0], replace(ENTRIES[1], name="a", role="single")]
    results = step.run(entries, setting.zoo, setting.dataset, job, store)
    assert [(r.name, r.retrained) for r in results] == [("reassembly 1", ()), ("a", ())]
    assert "a came to no end on all training images" in capsys.readouterr().err


def test_an_image_that_one_training_could_not_read_counts_for_none(tmp_path: Path) -> None:
    store, labels = RunStore(tmp_path), np.asarray([0, 1, 1, 0])
    said = {"winners/0": [0, -1, 1, 1], "winners/1": [0, 1, -1, 0]}
    results = []
    for folder, classes in said.items():
        with store.local_folder(folder) as place:
            write_predictions(place, list("abcd"), labels, {0: np.asarray(classes)})
        done = ProtocolResult(0.5, 1, 1.0, ())
        trainings = (Training(0, None, {"full": done}),)
        results.append(Result(folder, "single", MIXED, 1, 1, {}, trainings, folder))
    found = right_of(store, results)
    assert found["winners/0"].tolist() == [[True, False]]
    assert found["winners/1"].tolist() == [[True, True]]
