"""What is looked at on a machine, and what is said of it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import psutil
import pytest

from zoo_search.cli import doctor
from zoo_search.cli.app import app


@pytest.mark.slow
def test_the_doctor_examines_everything(
    ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a Ray that is there; tests/cluster/test_temporary.py has it start one."""
    code = app(["doctor", "--json"], standalone_mode=False)
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert {"python", "torch", "torch with torchvision", "memory", "disk", "ray cluster"} <= set(
        checks
    )
    assert checks["torch with torchvision"]["state"] == "ok"
    assert "match" in checks["torch with torchvision"]["found"]
    assert code == (2 if any(c["state"] == "bad" for c in checks.values()) else 0)


def test_what_is_missing_comes_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "a package that nobody has"))
    found, missing = doctor._packages()
    assert (found.name, found.state) == ("numpy", "ok")
    assert (missing.found, missing.state) == ("missing", "bad")
    assert missing.cure.endswith("constraints.txt a package that nobody has")


def test_too_little_memory_or_disk_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((1e8, "bad"), (1e11, "ok")):
        sizes = SimpleNamespace(available=free, total=2e11, free=free)
        monkeypatch.setattr(psutil, "virtual_memory", lambda sizes=sizes: sizes)
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path, sizes=sizes: sizes)
        checks = [doctor._memory(), doctor._disk(".")]
        assert [check.state for check in checks] == [state, state]
        assert [bool(check.cure) for check in checks] == [state == "bad"] * 2
    table = doctor.checks_table(checks)
    assert [row["name"] for row in table.rows] == ["memory", "disk"]
