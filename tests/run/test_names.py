"""Names in a run file are found or refused before anything is computed."""

from __future__ import annotations

import pytest

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.run import pipeline
from zoo_search.run.run import Run, check_names

JOB = {"name": "x", "dataset": "digits", "zoo": {"a": {"arch": "no_such_architecture"}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "digit"}, r"^dataset\.name: there is no data set 'digit'.*'digits'\?"),
        ({"similarity": {"metric": "ckka"}}, r"^similarity\.metric: .* 'ckka'.*'cka'\?.* lr, or"),
        ({"search": {"sampler": "tpee"}}, r"^search\.sampler: .*'tpe'\? Allowed: random, tpe, ns"),
        ({"search": {"proxies": ["naswot", "prob"]}}, r"^search\.proxies: .*'prob'.*'probe'\?"),
        (
            {"search": {"sampler": "module:no_such:A"}},
            r"^search\.sampler: .*: no Python module 'no_",
        ),
    ],
)
def test_a_name_that_nothing_has_is_told_where_it_stands(change, words, tmp_path) -> None:
    with pytest.raises(UserError, match=words):
        check_names(load_job(JOB | change))
    with pytest.raises(UserError, match=words):  # before the architecture is looked at
        _ = Run.open(JOB | change, str(tmp_path)).prepare()


def test_a_hook_that_does_not_exist_is_found_before_anything_runs(tmp_path) -> None:
    with pytest.raises(UserError, match=r"init\.0: there is no init hook 'dpait'"):
        pipeline.run(JOB | {"init": "dpait"}, directory=str(tmp_path / "run"))
    assert not (tmp_path / "run" / "zoo.json").exists()


def test_names_of_ours_are_all_right() -> None:
    search = {"sampler": "cpsat", "proxies": ["naswot", "macs"]}
    check_names(load_job(JOB | {"search": search, "similarity": {"metric": "rbf_cka"}}))
    check_names(load_job(JOB | {"dataset": {"name": "hf:beans"}}))
