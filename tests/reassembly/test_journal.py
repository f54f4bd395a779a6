"""Where a study is kept."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from reassembly.study_by_hand import go_on, read, study_of

from zoo_search.core.errors import UserError
from zoo_search.costs import Budget, CostTable
from zoo_search.reassembly import Space, journal
from zoo_search.reassembly.journal import StudyPlace


@pytest.fixture(scope="module")
def space(zoo, free_partition) -> Space:
    return Space(free_partition, CostTable(zoo, 4), Budget())


def test_a_journal_that_was_cut_in_mid_line_with_its_lock_left(
    space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal, "_LOCK_SECONDS", 3)
    monkeypatch.chdir(tmp_path)
    path = Path("study.journal")
    go_on(study_of(space, 20, "random", path), 9)
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"worker')
    Path("study.journal.lock").symlink_to(path.absolute())
    study = study_of(space, 20, "random", path)
    assert study.resumed == 9
    go_on(study)
    assert len(read(path).get_trials()) == 20 + len(space.zoo)


def test_any_optuna_storage_will_do(space, tmp_path: Path):
    url = f"sqlite:///{tmp_path}/study.db"
    first, second = (StudyPlace(None, letter * 64, url, "digits") for letter in "ab")
    go_on(study_of(space, 15, "tpe", first), 9)
    study = study_of(space, 15, "tpe", first)
    assert study.resumed == 9
    go_on(study)
    alone = study_of(space, 15, "tpe", seed=0)
    go_on(alone)
    assert study.candidates() == alone.candidates()
    assert study_of(space, 15, "tpe", second).resumed == 0
    names = optuna.get_all_study_names(url)
    assert sorted(names) == ["digits " + "a" * 12, "digits " + "b" * 12]


@pytest.mark.parametrize("url", ["sqlite:////nowhere/study.db", "nosuchthing://x", "?"])
def test_a_storage_that_cannot_be_opened_is_named(space, url):
    with pytest.raises(UserError, match=r"search\.storage"):
        study_of(space, 5, "random", StudyPlace(url=url))
