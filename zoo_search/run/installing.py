"""What a job installs on the nodes of a cluster, where its user asks for it: this zoo-search.

The package itself travels as it is here. What it needs comes by pip, in the versions that are
installed here, into an environment of the job's own beside what a node has. Ray is the cluster's.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo_search.core import version
from zoo_search.core.errors import some

_PACKAGE = "zoo-search"
_OF_THE_CLUSTER = "ray"


@dataclass(frozen=True)
class Installation:
    """What is installed for a job; by default nothing."""

    packages: tuple[str, ...] = ()
    """For pip, ``NAME==VERSION``."""
    runtime_env: Mapping[str, object] = field(default_factory=dict)
    """What Ray is told of it."""

    @classmethod
    def of_this(cls) -> Installation:
        """Return what makes a node able to run what is installed here."""
        packages = tuple(f"{name}=={version}" for name, version in sorted(needed().items()))
        package = str(Path(version.__file__).parents[1])
        return cls(packages, {"py_modules": [package], "pip": {"packages": list(packages)}})

    def __str__(self) -> str:
        if not self.packages:
            return "installs nothing"
        return (
            f"installs  zoo-search {version.__version__} from here, and by pip what nodes lack of "
            f"{len(self.packages)} packages: {some(self.packages, ', ', ' and')}"
        )

    def command(self, words: Sequence[str]) -> list[str]:
        """Return a command of zoo-search as it is called where that was installed so."""
        return ["python", "-m", "zoo_search", *words[1:]] if self.packages else list(words)


def needed(package: str = _PACKAGE) -> dict[str, str]:
    """Return the versions, here, of all that a package needs, and all that needs; not Ray's.

    What belongs to a machine (``+cpu`` of a version of torch) is left out.
    """
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    ahead = [(package, frozenset[str]())]
    seen = set(ahead)
    while ahead:
        name, extras = ahead.pop()
        try:
            told = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # it is optional there
        if name != package:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        for line in told:
            wanted = Requirement(line)
            asked = ("", *extras)
            if wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in asked):
                continue
            following = wanted.name.lower().replace("_", "-"), frozenset(wanted.extras)
            if following[0] != _OF_THE_CLUSTER and following not in seen:
                seen.add(following)
                ahead.append(following)
    return found
