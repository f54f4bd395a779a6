"""Weights from the hubs: from the cache, else from the network, with a clear word if there is none.

A file that lies in the cache is taken without asking the network; give ``sha256``, or a revision
(``hf-hub:ORG/NAME@REVISION``), where it matters which one it is.
"""

from __future__ import annotations

import functools
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.json_text import read_json
from zoo_search.zoo.build import pretrained_cfg_of

_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
_FACTS = ("mean", "std", "interpolation", "crop_pct")
_PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class WeightsFile:
    """A local file with weights, and what came with it; ``words`` say from where, for people."""

    path: Path
    words: str
    facts: Mapping[str, object] = field(default_factory=dict)
    """What its source says of preprocessing (``mean``, ``std``, ...)."""
    license: str | None = None


def timm_weights(arch: str, where: str) -> WeightsFile:
    """Return the file behind timm's configuration of an architecture; a tag after the dot chooses.

    Raises:
        UserError: If timm has no weights of that name, or they cannot be had.
    """
    cfg = pretrained_cfg_of(arch)
    if repo := cfg.get("hf_hub_id"):
        name = cfg.get("hf_hub_filename")
        path, words = _from_hf(repo, (name,) if name else _FILES, where), f"timm's {repo}"
    elif url := cfg.get("url"):
        path, words = _from_url(url, where), f"timm's {url}"
    else:
        raise UserError(
            f"{where}: timm has no weights for '{arch}'. Give a file, hf-hub:ORG/NAME, "
            "pretrained_on:DATASET, null (weights from the most similar model of the zoo), or, if "
            "a factory brings its own, own."
        )
    return WeightsFile(path, words, license=cfg.get("license"))


def timm_weights_problem(arch: str) -> str | None:
    """Return why the weights behind :func:`timm_weights` cannot be had now; None if they can.

    They are in the local cache, or their hub answers; nothing is fetched.
    """
    from huggingface_hub import constants

    cfg = pretrained_cfg_of(arch)
    if repo := cfg.get("hf_hub_id"):
        name = cfg.get("hf_hub_filename")
        if _cached(repo, (name,) if name else _FILES) is not None:
            return None
        if constants.HF_HUB_OFFLINE:
            return "HF_HUB_OFFLINE is set"
        return _answers(os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/"))
    if url := cfg.get("url"):
        if _place_of(url).is_file():
            return None
        return _answers(f"{urlparse(url).scheme}://{urlparse(url).netloc}")
    return "timm has none"


def hf_weights(repo: str, where: str) -> WeightsFile:
    """Return the weights file of a repository ``ORG/NAME[@REVISION]`` of the Hugging Face hub.

    The repository's ``config.json``, where timm wrote it, says how its images are prepared.

    Raises:
        UserError: If there is no such repository or file, or it cannot be reached.
    """
    if "/" not in repo:
        raise UserError(f"{where}: write 'hf-hub:ORG/NAME', such as hf-hub:timm/resnet18.a1_in1k.")
    path = _from_hf(repo, _FILES, where)
    config = _config_of(repo, where)
    inner = config.get("pretrained_cfg")
    cfg = {**config, **(inner if isinstance(inner, dict) else {})}
    facts = {key: cfg[key] for key in _FACTS if cfg.get(key) is not None}
    license = None if cfg.get("license") is None else str(cfg["license"])
    return WeightsFile(path, f"hf-hub:{repo}", facts, license)


def _config_of(repo: str, where: str) -> dict[str, object]:
    """Return the repository's ``config.json``, or ``{}`` if it has none."""
    try:
        loaded = read_json(_from_hf(repo, ("config.json",), where).read_text(encoding="utf-8"))
    except (UserError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _from_hf(repo: str, names: Sequence[str], where: str) -> Path:
    """Return the first of the files that the repository has, from the cache if it is there."""
    from huggingface_hub import constants

    if (cached := _cached(repo, names)) is not None:
        return cached
    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
    hub = f"the Hugging Face hub ({endpoint})"
    cure = (
        f"fetch {names[0]} of '{repo}' on a machine with network and write the path of that file "
        f"as {where}, or copy that machine's cache folder to {constants.HF_HUB_CACHE}"
    )
    problem = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(endpoint)
    if problem:
        raise UserError(
            f"{where}: {names[0]} of '{repo}' is not in the local cache, and {hub} cannot be "
            f"reached ({problem}). Connect to the network; or {cure}."
        )
    for name in names:
        path = _download(repo, name, endpoint, f"{where}: {hub}", cure)
        if path is not None:
            return path
    raise UserError(f"{where}: '{repo}' on {hub} has none of the files {', '.join(names)}.")


def _cached(repo: str, names: Sequence[str]) -> Path | None:
    """Return the first of the files that lies in the hub's local cache."""
    from huggingface_hub import try_to_load_from_cache

    repo_id, _, revision = repo.partition("@")
    for name in names:
        found = try_to_load_from_cache(repo_id, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def _download(repo: str, name: str, endpoint: str, who: str, cure: str) -> Path | None:
    """Return the downloaded file, or None if the repository has no file of that name."""
    from huggingface_hub import errors, hf_hub_download

    repo_id, _, revision = repo.partition("@")
    try:
        return Path(hf_hub_download(repo_id, name, revision=revision or None, endpoint=endpoint))
    except errors.LocalEntryNotFoundError as error:
        reason = first_line(error.__cause__ or error)
        problem, todo = f"broke off while {name} of '{repo}' was fetched ({reason})", "Try again"
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError:
        problem = f"asks for consent to the terms of '{repo}'"
        todo = "Accept them on its page and set HF_TOKEN"
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        problem = f"has no repository or revision '{repo}', or it is private"
        todo = "Check the name, or set HF_TOKEN if it is yours"
    except (OSError, errors.HFValidationError) as error:
        problem, todo = f"gives no {name} of '{repo}' ({first_line(error)})", "Check the name"
    raise UserError(f"{who} {problem}. {todo}; or {cure}.")


def _from_url(url: str, where: str) -> Path:
    """Return the file of a web address, from torch.hub's cache if it is there."""
    import torch

    path = _place_of(url)
    if path.is_file():
        return path
    problem = _unreachable(f"{urlparse(url).scheme}://{urlparse(url).netloc}")
    if not problem:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
            return path
        except (OSError, RuntimeError) as error:
            problem = first_line(error)
    raise UserError(
        f"{where}: {url} is not in the local cache {path.parent}, and cannot be fetched "
        f"({problem}). Connect to the network; or fetch it on a machine with network and write "
        f"the path of {path.name} as {where}."
    )


def _place_of(url: str) -> Path:
    """Return where torch.hub caches the file of a web address."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


@functools.cache
def _answers(address: str) -> str | None:
    """Return why a host does not answer, asked once in a process; None if it does."""
    problem = _unreachable(address)
    return None if problem is None else f"no answer from {address}: {problem}"


def _unreachable(address: str) -> str | None:
    """Return why a host does not answer, or None: the hubs' own clients retry for half a minute."""
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
            return None
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        return None if isinstance(error.reason, ssl.SSLError) else first_line(error.reason)
    except (OSError, ValueError) as error:
        return first_line(error)
