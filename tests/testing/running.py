"""Runs a suite on implementations that are broken on purpose."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

__all__ = ["OPTIONS", "check_broken"]

OPTIONS = (
    *("-q", "--no-header", "--tb=no", "--noconftest", "--import-mode=importlib", "-W", "ignore"),
    *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout", "-p", "no:faulthandler"),
    *("-p", "no:hypothesispytest"),  # which would import hypothesis at the end
    *("-o", "addopts=", "-o", "timeout="),
)


class _Outcomes:
    """Takes down which statements each class failed, and which it says that it must."""

    def __init__(self) -> None:
        self.must: dict[str, set[str]] = {}
        self.failed: dict[str, set[str]] = defaultdict(set)
        self.errors: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """Run what must fail; of a class of which nothing must, everything."""
        for item in items:
            self.must[item.cls.__name__] = set(item.cls.must_fail)
        items[:] = [
            item for item in items if not (must := item.cls.must_fail) or item.originalname in must
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            _, broken, statement = report.nodeid.split("::", maxsplit=2)
            self.failed[broken].add(statement.partition("[")[0])
            if report.when != "call":
                self.errors.append(report.nodeid)


def check_broken(file: Path, suite: type) -> None:
    """Check that each class in a file fails what its ``must_fail`` names; with none, it is sound.

    Together they fail every statement of the suite, so that each is known to be able to fail.
    """
    seen = _Outcomes()
    pytest.main([str(file), *OPTIONS], plugins=[seen])
    assert seen.must
    assert not seen.errors
    passed = {name: must - seen.failed[name] for name, must in seen.must.items()}
    assert not {name: names for name, names in passed.items() if names}, "passed, but is broken"
    sound = {name for name, must in seen.must.items() if not must}
    assert sound
    assert not {name: seen.failed[name] for name in sound if seen.failed[name]}
    statements = {name for name in dir(suite) if name.startswith("test_")}
    assert statements == set().union(*seen.must.values()), "what nothing is known to fail"
