from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BeforeValidator

from zoo_search.config import JobConfig, load_job, read
from zoo_search.config.section import Section
from zoo_search.core.errors import Note, UserError

JOBS = sorted((Path(__file__).parents[2] / "jobs").glob("*.yaml"))
SMALL: dict[str, Any] = {"name": "a", "zoo": {"m": {"arch": "resnet18"}}, "dataset": "digits"}


def write(folder: Path, change: dict[str, Any]) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(SMALL | change, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_every_shipped_run_file_is_valid_and_comes_back_unchanged(path: Path) -> None:
    job = load_job(path)
    assert load_job(yaml.safe_load(job.to_yaml())) == job


def test_there_are_run_files() -> None:
    assert {"digits.yaml", "lite-imagenet.yaml"} <= {path.name for path in JOBS}


def test_the_written_configuration_names_every_default() -> None:
    written = yaml.safe_load(load_job(SMALL).to_yaml())
    assert written["partition"] == {
        "k": 4, "eps": 0.2, "size": "nodes", "method": "exact", "restarts": 200,
        "one_per_set": True, "shift": 0, "tolerance": 0.1, "certify": 0, "workers": None,
    }  # fmt: skip
    assert written["dataset"]["name"] == "digits"
    assert set(written) == set(JobConfig.model_fields)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"naem": 1}, ["line 6", "unknown key 'naem'", "'name'", "Allowed there"]),
        ({"partition": {"metod": "kl"}}, ["line 7", "'metod'", "'method'", "restarts"]),
        ({"zoo": {"m": {"arch": "x", "wieghts": "t"}}}, ["line 5", "zoo.m", "'weights'"]),
        ({"zoo": {"mean": {"arch": "x", "sdt": 1}}}, ["zoo.mean", "'sdt'", "'std'"]),
        ({"finetune": {"protocol": []}}, ["finetune.protocol", "at least 1 item"]),
        ({"partition": {"k": [2, 0]}}, ["partition.k", "a whole number from 1 up, or a list"]),
        ({"partition": {"method": "klx"}}, ["partition.method", "'exact', 'kl' or 'random'"]),
        ({"budget": {"min_params": 9, "max_params": 1}}, ["min_params 9 is above max_params 1"]),
        ({"search": {"trials": 0}}, ["search.trials", "greater than or equal to 1"]),
        ({"dataset": {"path": "x"}}, ["dataset.name", "missing"]),
        ({"name": "a/b"}, ["'name'", "match"]),
        ({"timeout": 0}, ["'timeout'", "greater than 0"]),
        ({"timeout": float("inf")}, ["'timeout'", "finite"]),
        ({"patience": 0}, ["line 6", "'timeout'", "greater than 0"]),
        ({"patience": 2, "timeout": 3}, ["line 6", "'patience' is the old name of 'timeout'"]),
        ({"finetune": {"recipe": "slow"}}, ["line 7", "'finetune.schedule.name'", "'few-shot'"]),
        ({"finetune": {"schedule": 3}}, ["line 7", "'finetune.schedule'", "a name, or a mapping"]),
        ({"finetune": {"schedule": {"mixup": -1}}}, ["line 8", "finetune.schedule.mixup", "-1"]),
        (
            {"finetune": {"schedule": {"name": "dery-short", "mixpu": 1}}},
            ["line 9", "unknown key 'mixpu' in 'finetune.schedule'", "'mixup'", "epochs_full"],
        ),
        (
            {"finetune": {"schedule": {"batch_size": 8}}},
            ["line 8", "unknown key 'batch_size' in 'finetune.schedule'"],
        ),
        ({"finetune": {"worker": 2}}, ["line 7", "unknown key 'worker'", "'workers'"]),
        (
            {"finetune": {"candidates": 8, "winners": 3, "brackets": 3}},
            ["8 candidates in 3 brackets", "3 winners", "at most 2 brackets"],
        ),
        ({"finetune": {"workers": 0}}, ["line 7", "'finetune.workers'", "from 1 up", "given: 0"]),
        ({"finetune": {"workers": [0, 2]}}, ["line 7", "'finetune.workers'", "such as [2, 8]"]),
        ({"finetune": {"workers": [2]}}, ["line 7", "'finetune.workers'", "such as [2, 8]"]),
        ({"finetune": {"workers": [1, 2, 3]}}, ["line 7", "'finetune.workers'", "[2, 8]"]),
        ({"finetune": {"workers": [8, 2]}}, ["line 7", "finetune.workers", "smaller number last"]),
        ({"finetune": {"workers": "many"}}, ["line 7", "'finetune.workers'", "'many'"]),
        ({"finetune": {"gpus_per_worker": 0}}, ["finetune.gpus_per_worker", "greater than 0"]),
        ({"finetune": {"precision": "fp16"}}, ["finetune.precision", "'auto', 'fp32' or 'bf16'"]),
        ({"finetune": {"accumulate": 0}}, ["finetune.accumulate", "or equal to 1"]),
        ({"finetune": {"keep_decoded": 2}}, ["finetune.keep_decoded", "or equal to 1"]),
        ({"finetune": {"validation": 1}}, ["finetune.validation", "less than 1"]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_its_cure(
    tmp_path: Path, change: dict[str, Any], expected: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        load_job(write(tmp_path, change))
    for part in expected:
        assert part in str(caught.value)
    assert str(caught.value).count(", line ") == 1  # one mistake, told once
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "read"), [(None, None), (4, 4), ([2, 8], (2, 8)), ([3, 3], (3, 3))]
)
def test_workers_are_a_number_or_a_range(given: object, read: object) -> None:
    job = load_job(SMALL | {"finetune": {"workers": given}})
    assert job.finetune.workers == read
    assert load_job(yaml.safe_load(job.to_yaml())) == job


@pytest.mark.parametrize(
    "given",
    ["dery-short", {"name": "dery-short"}, {"name": "dery-short", "mixup": None}],
)
def test_a_schedule_by_name_is_written_as_the_name(given: object) -> None:
    """As it was written before schedules had values, so that finished runs are known."""
    job = load_job(SMALL | {"finetune": {"schedule": given}})
    assert yaml.safe_load(job.to_yaml())["finetune"]["schedule"] == "dery-short"
    assert job.finetune.identity()["recipe"] == "dery-short"
    assert load_job(yaml.safe_load(job.to_yaml())) == job


def test_a_schedule_with_values_comes_back_from_yaml(tmp_path: Path) -> None:
    given = {"name": "dery-short", "epochs_full": 50, "mixup": 0.2, "orthogonal": False, "ema": 0}
    job = load_job(write(tmp_path, {"finetune": {"schedule": given}}))
    assert yaml.safe_load(job.to_yaml())["finetune"]["schedule"] == given
    assert job.finetune.identity()["recipe"] == given
    assert load_job(yaml.safe_load(job.to_yaml())) == job
    few = load_job(SMALL | {"finetune": {"schedule": {"mixup": 0.2}}}).finetune
    assert few.schedule.name == "few-shot"


def test_a_renamed_key_is_read_under_its_old_name_with_a_note(tmp_path: Path) -> None:
    change = {"finetune": {"recipe": "timm", "plain": {"recipe": {"arch": "x"}}}, "patience": 7}
    path = write(tmp_path, change)
    with pytest.warns(Note) as told:
        job = load_job(path)
    assert (job.finetune.schedule.name, job.timeout) == ("timm", 7)
    assert list(job.finetune.plain) == ["recipe"]  # a name of the user's is no key
    assert sorted(str(note.message) for note in told) == [
        f"{path}, line 11: 'patience' is called 'timeout' now. The old name is still read.",
        f"{path}, line 7: 'finetune.recipe' is called 'finetune.schedule' now. The old name is "
        "still read.",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_job(yaml.safe_load(job.to_yaml())) == job


def test_reading_changes_nothing_in_a_mapping() -> None:
    change = SMALL | {"patience": 7}
    with pytest.warns(Note, match="the run configuration: 'patience' is called 'timeout' now"):
        load_job(change)
    assert "patience" in change


def test_a_missing_file_and_broken_yaml_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml cannot be read"):
        load_job(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: a\n zoo: [", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2 is not valid YAML"):
        load_job(broken)
    broken.write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match=r"broken\.yaml cannot be read"):
        load_job(broken)


@settings(deadline=None)
@given(st.integers(1, 12), st.floats(0, 5), st.sampled_from(["nodes", "params", "macs"]))
def test_any_valid_partition_section_survives_the_round_trip(k: int, eps: float, size: str) -> None:
    job = load_job(SMALL | {"partition": {"k": k, "eps": eps, "size": size}})
    again = load_job(yaml.safe_load(job.to_yaml()))
    assert (again.partition.k, again.partition.eps, again.partition.size) == (k, eps, size)


def test_the_demo_is_the_one_that_was_promised() -> None:
    """Four blocks, 200 restarts, 100 trials, both protocols, and a choice of single models."""
    import timm
    import torch

    from zoo_search.costs import CostTable
    from zoo_search.linegraph import trace
    from zoo_search.networks import BlockRef, Recipe
    from zoo_search.reassembly.costing import budget_of

    job = load_job(next(path for path in JOBS if path.name == "digits.yaml"))
    assert (job.partition.k, job.partition.restarts, job.search.trials) == (4, 200, 100)
    assert job.finetune.protocol == ("frozen", "full")
    graphs = {}
    for name, spec in job.zoo.items():
        with torch.device("meta"):
            model = timm.create_model(spec.arch, pretrained=False, **spec.kwargs)
        graphs[name] = trace(model, (3, 64, 64), name)
    costs, budget = CostTable(graphs, num_classes=10), budget_of(job.budget)
    whole = {
        name: costs.cost(Recipe((BlockRef(name, 0, len(graph)),), "target"))
        for name, graph in graphs.items()
    }
    within = [name for name, cost in whole.items() if budget.admits(cost)]
    assert len(within) >= 2
    for name in within:
        assert whole[name].params <= 6.0e6
        assert whole[name].macs <= 3.5e7


TEXT = "name: a\nzoo:\n  {key}: {{arch: resnet18}}\ndataset: digits\n"


@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("on", "the truth value true"),
        ("No", "the truth value false"),
        ("1", "the number 1"),
        ("1.50", "the number 1.5"),
        ("12:30", "the number 750"),
        ("0x1f", "the number 31"),
        ("2024-01-02", "the date 2024-01-02"),
        ("~", "nothing at all (null)"),
    ],
)
def test_a_name_that_yaml_takes_for_something_else_is_to_be_quoted(
    tmp_path: Path, key: str, read: str
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(TEXT.format(key=key), encoding="utf-8")
    told = (
        f"{path}, line 3: a key in 'zoo' is written {key}, which YAML reads as {read}, and not as "
        f'a name. Quote it: "{key}".'
    )
    with pytest.raises(UserError) as caught:
        load_job(path)
    assert str(caught.value) == told
    path.write_text(TEXT.format(key=f'"{key}"'), encoding="utf-8")
    assert list(load_job(path).zoo) == [key]


def outcome_of(path: Path) -> list[str] | str:
    """Return the names of the zoo, or what is said instead."""
    try:
        return list(load_job(path).zoo)
    except UserError as error:
        return str(error)


@given(st.text(alphabet="yesnotrufalNOYEFT0123456789.:-_eE+~x", min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_a_name_of_any_form_is_itself_or_to_be_quoted(
    tmp_path_factory: pytest.TempPathFactory, key: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(TEXT.format(key=key), encoding="utf-8")
    outcome = outcome_of(path)
    assert outcome == [key] or "YAML" in outcome or "the name" in outcome


def test_a_name_in_a_list_is_found_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    text = "name: a\ndataset: digits\nzoo: {m: {arch: x}}\ninit:\n- hook: dpiat\n  on: zoo\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"line 6: a key in 'init\.0' is written on, which YAML"):
        load_job(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("license: 1.10", "'zoo.m.license' should be text, and YAML reads 1.10 as the number 1.1"),
        ("license: 2024-01-02", "YAML reads 2024-01-02 as the date 2024-01-02"),
        ("weights: off", "YAML reads off as the truth value false"),
        ("interpolation: no", "YAML reads no as the truth value false"),
    ],
)
def test_a_text_that_yaml_takes_for_something_else_is_to_be_quoted(
    tmp_path: Path, line: str, told: str
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"name: a\nzoo:\n  m:\n    arch: x\n    {line}\ndataset: digits\n", "utf-8")
    with pytest.raises(UserError) as caught:
        load_job(path)
    assert f"{path}, line 5: " in str(caught.value)
    assert told in str(caught.value)
    assert f'quote it: "{line.partition(": ")[2]}"' in str(caught.value)


def test_names_of_others_may_be_numbers() -> None:
    """Below the arguments of a model and the options of a hook."""
    zoo = {"m": {"arch": "resnet18", "kwargs": {"stages": {1: 2}}}}
    assert load_job(SMALL | {"zoo": zoo}).zoo["m"].kwargs == {"stages": {1: 2}}
    hooks = {"init": [{"hook": "dpiat", "options": {"a": {1: 2}}}]}
    assert load_job(SMALL | hooks).init[0].options == {"a": {1: 2}}
    with pytest.raises(UserError, match=r"a key in 'zoo\.m\.kwargs' is written 1, which YAML"):
        load_job(SMALL | {"zoo": {"m": {"arch": "resnet18", "kwargs": {1: 2}}}})


@pytest.mark.parametrize(
    ("section", "key", "one"),
    [
        ("search", "proxies", "naswot"),
        ("finetune", "protocol", "frozen"),
        ("finetune", "baselines", "random"),
        ("finetune", "log", "mlflow"),
        ("budget", "licenses", "mit"),
        ("budget", "measure", "memory"),
    ],
)
def test_a_single_value_is_a_list_of_one(section: str, key: str, one: str) -> None:
    job = load_job(SMALL | {section: {key: one}})
    assert getattr(getattr(job, section), key) == (one,)
    assert job == load_job(SMALL | {section: {key: [one]}})
    assert load_job(SMALL | {"init": {"hook": "dpiat", "roles": "zoo"}}).init[0].roles == ("zoo",)


def test_every_list_of_a_run_file_takes_a_single_value() -> None:
    """All but those of a fixed length, and the numbers of blocks and of workers."""
    known = {"mean", "std", "value_range"}

    def look(section: type[Section]) -> None:
        for name, field in section.model_fields.items():
            inner = read._section_of(field.annotation)
            if inner is not None:
                look(inner)
            elif "tuple" in str(field.annotation) and name not in known:
                marks = [m for m in field.metadata if isinstance(m, BeforeValidator)]
                others = [n for n in section.__pydantic_decorators__.field_validators.values()
                          if name in n.info.fields]  # fmt: skip
                assert marks or others, name

    look(JobConfig)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"finetune": {"batch_size": 1}}, "'finetune.batch_size': input should be greater than"),
        ({"finetune": {"batch_size": 6, "accumulate": 4}}, "give at most 3 parts, or a larger"),
        ({"zoo": {"m": {"arch": "x", "std": [1, 0, 1]}}}, "zoo.m.std.1': input should be greater"),
        ({"zoo": {"m": {"arch": "x", "mean": [1, 0, float("nan")]}}}, "zoo.m.mean.2"),
        ({"seed": -1}, "'seed': input should be greater than or equal to 0"),
        ({"seed": 2**32}, "'seed': input should be less than"),
        ({"partition": {"eps": float("inf")}}, "'partition.eps': input should be a finite number"),
        ({"budget": {"min_params": float("inf")}}, "'budget.min_params': input should be a finite"),
    ],
)
def test_a_value_that_cannot_work_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        load_job(SMALL | change)
    assert told in str(caught.value)
