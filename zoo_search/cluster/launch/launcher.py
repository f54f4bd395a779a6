"""Ray's own launcher, called: up, down, and what is running. Nothing is started by a question."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zoo_search.cluster.launch.file import LaunchFile, check_ready
from zoo_search.core.errors import UserError, first_line

_NEEDS = {
    "aws": "boto3 (pip install 'zoo-search[aws]')",
    "gcp": "Google's client (pip install 'zoo-search[gcp]')",
    "azure": "Azure's clients (pip install 'zoo-search[azure]')",
}
_CREDENTIALS = {
    "aws": "'aws configure', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gcp": "'gcloud auth application-default login'",
    "azure": "'az login'",
}
# What Ray reads from the environment, where the user has made no choice.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_UP_enable_autoscaler_v2": "1"}


@dataclass(frozen=True)
class Running:
    """One machine of a cluster, as its provider tells.

    Attributes:
        id: The provider's name of it.
        kind: ``head`` or ``worker``.
        type: Its kind in the launcher file.
        state: What the launcher last did with it, such as ``up-to-date``.
        address: The one by which it is reached from here; None while it has none.
        price: US dollars an hour; None if it is not known.
    """

    id: str
    kind: str
    type: str
    state: str
    address: str | None
    price: float | None


def running(file: LaunchFile) -> list[Running]:
    """Return the machines of a cluster that are running or starting, the head first.

    Raises:
        UserError: If the provider cannot be asked.
    """
    with _telling(file):
        provider = _provider(file)
        inside = bool(file.config["provider"].get("use_internal_ips"))
        found = []
        for node in provider.non_terminated_nodes({}):
            tags = provider.node_tags(node)
            kind, name = tags.get("ray-node-type", "?"), tags.get("ray-user-node-type", "?")
            known = file.type_of(name)
            address = provider.internal_ip(node) if inside else provider.external_ip(node)
            price = None if known is None else known.price
            state = tags.get("ray-node-status", "?")
            found.append(Running(str(node), kind, name, state, address, price))
    return sorted(found, key=lambda each: each.kind != "head")


def bring_up(file: LaunchFile, workers: int | None = None) -> None:
    """Start a cluster, or give a running one its file anew, without a restart of what runs there.

    Args:
        file: The launcher file.
        workers: So many are started at once and kept; default: as the file says.

    Raises:
        UserError: If it cannot be started; what was started by then is told.
    """
    check_ready(file)
    _require_programs()
    config: dict[str, Any] | str = str(file.path)
    if workers is not None:
        config = _with_workers(file, workers)
    up = bool(running(file))
    with _telling(file):
        if file.provider == "aws":
            from zoo_search.cluster.launch import aws

            aws.prepare(file)
        from ray.autoscaler.sdk import create_or_update_cluster

        # Ray's cache may name a security group that 'down' has removed.
        create_or_update_cluster(config, no_restart=up, no_config_cache=True)


def bring_down(file: LaunchFile) -> list[str]:
    """End all machines of a cluster, and remove what was made for it alone; return what that was.

    Raises:
        UserError: If the provider cannot be asked, or machines are left.
    """
    removed: list[str] = []
    found = running(file)
    with _telling(file):
        if found or file.provider == "local":
            # Without machines Ray would first make what they need.
            from ray.autoscaler.sdk import teardown_cluster

            teardown_cluster(str(file.path))
            removed += [f"{each.kind} {each.id}" for each in found]
        if file.provider == "aws":
            from zoo_search.cluster.launch import aws

            removed += aws.clean_up(file)
    return removed


def _provider(file: LaunchFile) -> Any:
    from ray.autoscaler._private.providers import _get_node_provider

    settings = copy.deepcopy(file.config["provider"])
    if file.provider == "local":
        # Ray's class keeps a list of the machines by this name.
        return _get_node_provider(settings, file.name)
    if file.provider == "gcp" and not settings.get("project_id"):
        raise UserError(f"{file.path} names no 'provider.project_id'. Give it.")
    return _get_node_provider(settings, file.name, use_cache=False)


def _with_workers(file: LaunchFile, workers: int) -> dict[str, Any]:
    """Return the file's mapping with so many workers at least.

    Raises:
        UserError: If it has not one kind of workers, or allows fewer of them.
    """
    kinds = [each for each in file.nodes if not each.is_head]
    if file.provider == "local" or len(kinds) != 1:
        raise UserError(
            f"--workers {workers}: {file.path} has not one kind of workers of which there may be "
            "more or fewer. Give 'min_workers' in the file."
        )
    if not 0 <= workers <= kinds[0].most:
        raise UserError(
            f"--workers {workers}: {file.path} allows 0 to {kinds[0].most} of '{kinds[0].name}'. "
            "Give a number in between, or raise 'max_workers' in the file."
        )
    config: dict[str, Any] = copy.deepcopy(dict(file.config))
    config["available_node_types"][kinds[0].name]["min_workers"] = workers
    return config


def _require_programs() -> None:
    missing = [name for name in ("ssh", "rsync") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"Ray's launcher sets nodes up with ssh and rsync, and this machine has no "
            f"{' and no '.join(missing)}. Nothing was started. Install what is missing "
            "(Debian and Ubuntu: apt install openssh-client rsync)."
        )


@contextlib.contextmanager
def _telling(file: LaunchFile) -> Iterator[None]:
    """Tell what providers, and Ray's launcher, refuse in one paragraph.

    Raises:
        UserError: If anything of that kind is raised inside.
    """
    from click import ClickException
    from ray.autoscaler._private.cli_logger import cli_logger

    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    cli_logger.configure("pretty", "auto", 0)  # type: ignore[no-untyped-call]
    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    provider = file.provider
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"{file.path} is for {provider}, and {_NEEDS.get(provider, 'a package')} is missing "
            f"({first_line(error)}). Install it where this command runs."
        ) from None
    except ClickException:
        raise UserError(
            f"Ray's launcher stopped for the reason above. 'zoo-search cluster status {file.path}' "
            f"says what runs and costs money; 'zoo-search cluster down {file.path}' ends it."
        ) from None
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if library not in ("botocore", "boto3", "googleapiclient", "google", "azure", "httplib2"):
            raise
        name = type(error).__name__
        cure = "Look at the rights of these credentials, and at region and names in the file."
        if "Credential" in name or "Auth" in name or "Token" in name or "Refresh" in name:
            cure = f"Log in first: {_CREDENTIALS[provider]}."
        elif "Connection" in name or "Endpoint" in name or "ServerNotFound" in name:
            cure = "Look at the network and at the region in the file."
        raise UserError(
            f"{provider} did not do what {file.path} asks for ({name}: {first_line(error)}). {cure}"
        ) from None
