"""What a job installs where its user asks for it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import zoo_search
from zoo_search.run.installing import Installation, needed


def test_nothing_is_installed_unasked() -> None:
    nothing = Installation()
    assert (nothing.runtime_env, str(nothing)) == ({}, "installs nothing")
    assert nothing.command(["zoo-search", "run", "x"]) == ["zoo-search", "run", "x"]


def test_all_that_is_needed_is_told_in_the_versions_of_this_machine() -> None:
    from packaging.requirements import Requirement

    found = needed()
    direct = {
        Requirement(line).name
        for line in importlib.metadata.requires("zoo-search") or []
        if "extra ==" not in line
    }
    assert {name.lower() for name in direct} - set(found) == {"ray"}  # it is the cluster's
    for name, version in found.items():
        assert importlib.metadata.version(name).split("+")[0] == version
        for line in importlib.metadata.requires(name) or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert wanted.name.lower().replace("_", "-") in {*found, "ray"}
    assert "pytest" not in found


def test_the_package_itself_travels() -> None:
    ours = Installation.of_this()
    assert ours.runtime_env["py_modules"] == [str(Path(zoo_search.__file__).parent)]
    assert ours.runtime_env["pip"] == {"packages": list(ours.packages)}
    assert ours.command(["zoo-search", "run", "x"]) == ["python", "-m", "zoo_search", "run", "x"]
    assert "zoo-search 0." in str(ours)
