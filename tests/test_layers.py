"""The plan of the package, held: who may import whom, no circle, no crowded folder.

Every import counts: at the top of a file, inside a function, and under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import zoo_search

PACKAGE = Path(zoo_search.__file__).parent
DESIGN = PACKAGE.parent / "docs" / "design.md"

LAYERS = (
    "core", "config", "cluster", "linegraph", "data", "training", "hooks", "zoo", "dpiat",
    "networks", "costs", "export", "similarities", "partitions", "reassembly", "finetune",
    "inference", "plots", "report", "run", "testing", "cli",
)  # fmt: skip
"""A package may import those before it; docs/design.md shows the same table."""

ABOVE_ALL = ("zoo_search", "zoo_search.__main__")
MOST_FILES = 16

MATHEMATICS = (
    "core.errors", "linegraph", "training", "hooks.guard", "dpiat",
    "networks.assemble", "networks.fitter", "networks.network", "networks.renewal",
    "networks.ridge", "networks.stitch", "costs", "similarities.estimators",
    "partitions.problem", "partitions.solvers", "partitions.bounds", "reassembly.space",
    "reassembly.proxies", "reassembly.samplers", "reassembly.guide",
)  # fmt: skip
"""Packages and modules that know neither Ray, nor file formats, nor the configuration."""
FOREIGN_TO_MATHEMATICS = ("ray", "pyarrow", "fsspec", "yaml", "zoo_search.config")


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST, modules: set[str]) -> set[str]:
    """Return what is imported anywhere in a file; ``from a import b`` may be a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules else node.module)
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Every module of ours with all that it imports, ours and others."""
    files = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    return {
        name: imports_of(ast.parse(path.read_text(encoding="utf-8")), set(files))
        for name, path in files.items()
    }


def room(module: str) -> str:
    return module.split(".")[1]


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_every_package_stands_in_the_table(graph: dict[str, set[str]]) -> None:
    assert {room(m) for m in graph if m not in ABOVE_ALL} == set(LAYERS)


def test_no_import_runs_back_up(graph: dict[str, set[str]]) -> None:
    back = [
        f"{module} imports {name}"
        for module, names in graph.items()
        if module not in ABOVE_ALL
        for name in sorted(names)
        if inside(name, "zoo_search")
        and (name == "zoo_search" or LAYERS.index(room(name)) > LAYERS.index(room(module)))
    ]
    assert back == []


def test_no_two_files_import_each_other(graph: dict[str, set[str]]) -> None:
    ours = {module: {name for name in names if name in graph} for module, names in graph.items()}
    try:
        TopologicalSorter(ours).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


def test_mathematics_knows_neither_ray_nor_files_nor_the_configuration(
    graph: dict[str, set[str]],
) -> None:
    rooms = [f"zoo_search.{name}" for name in MATHEMATICS]
    assert all(any(inside(module, name) for module in graph) for name in rooms)
    foreign = [
        f"{module} imports {name}"
        for module, names in graph.items()
        if any(inside(module, name) for name in rooms)
        for name in sorted(names)
        if any(inside(name, other) for other in FOREIGN_TO_MATHEMATICS)
    ]
    assert foreign == []


def test_no_folder_is_crowded() -> None:
    files = Counter(path.parent for path in PACKAGE.rglob("*.py"))
    assert {str(f.relative_to(PACKAGE)): n for f, n in files.items() if n > MOST_FILES} == {}


def test_the_design_shows_this_table() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|", DESIGN.read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(rows) == LAYERS
