"""A file of Ray's cluster launcher: read, checked by Ray's rules, and as what it would start."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo_search.cluster.launch.prices import price_of
from zoo_search.core.errors import UserError, first_line, require, some
from zoo_search.core.yaml_text import read_yaml, texts

PROVIDERS = ("aws", "gcp", "azure", "local")
"""Those whose machines and prices are known here; Ray's launcher has others."""
_TO_FILL_IN = re.compile(r"YOUR-[A-Z0-9-]*[A-Z0-9]")


@dataclass(frozen=True)
class NodeType:
    """One kind of machine of a launcher file.

    Attributes:
        name: As the file names it.
        instance: The provider's name of the machine; an address for one's own.
        spot: On the spot market, where the provider may take it away.
        least: How many there always are.
        most: How many there may be.
        is_head: It is the head.
        price: US dollars an hour of one; None if it is not known.
    """

    name: str
    instance: str
    spot: bool
    least: int
    most: int
    is_head: bool
    price: float | None


@dataclass(frozen=True)
class LaunchFile:
    """A launcher file as it was read; Ray gets ``config`` as it is."""

    path: Path
    config: Mapping[str, Any]
    nodes: Sequence[NodeType]

    @property
    def name(self) -> str:
        """The cluster's name."""
        return str(self.config["cluster_name"])

    @property
    def provider(self) -> str:
        """One of :data:`PROVIDERS`."""
        return str(self.config["provider"]["type"])

    @property
    def region(self) -> str:
        """Where the machines stand, in the provider's words."""
        provider = self.config["provider"]
        found = provider.get("availability_zone") if self.provider == "gcp" else None
        return str(found or provider.get("region") or provider.get("location") or "your own")

    @property
    def image(self) -> str:
        """The container image of the nodes; a dash if there is none."""
        return str((self.config.get("docker") or {}).get("image") or "–")

    @property
    def runs(self) -> str | None:
        """Where run directories lie, if the file says so (``metadata.runs``)."""
        found = (self.config.get("metadata") or {}).get("runs")
        return None if found is None else str(found).rstrip("/")

    def type_of(self, name: str) -> NodeType | None:
        """Return a kind of machine by its name."""
        return next((each for each in self.nodes if each.name == name), None)

    def to_fill_in(self) -> list[str]:
        """Return what is left of the example, such as ``docker.image: YOUR-REGISTRY``."""
        found = texts(self.config)
        return [f"{at}: {left[0]}" for at, text in found if (left := _TO_FILL_IN.search(text))]


def read_launch_file(path: str | Path) -> LaunchFile:
    """Read a launcher file and check it by Ray's own rules, without a question to a provider.

    Raises:
        UserError: If there is none, it is no YAML, or Ray would not take it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"The cluster file {path} cannot be read ({reason}). Give the path of a launcher file "
            "of Ray's; docs/clusters/ has one for each provider."
        ) from None
    config = read_yaml(text, str(path))[1]
    if isinstance(config, dict) and "apiVersion" in config:
        raise UserError(
            f"{path} is a manifest of Kubernetes ({config.get('kind')}), which Ray's launcher does "
            f"not take. Start it with 'kubectl apply -f {path}'; docs/clusters/kuberay.md says how."
        )
    provider = config.get("provider") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(provider, dict) or "type" not in provider:
        raise UserError(
            f"{path} is not a launcher file of Ray's: it should be a mapping with 'cluster_name' "
            "and 'provider', and in the latter a 'type'. docs/clusters/ has one for each provider."
        )
    problem = f"{path}: 'provider.type' is '{provider['type']}', which is unknown here."
    require(str(provider["type"]), PROVIDERS, problem)
    prepared = _prepared(config, path)
    return LaunchFile(path, config, _node_types(prepared))


def _prepared(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what Ray makes of a file with its defaults, and check that."""
    from click import ClickException
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler._private.util").setLevel(logging.WARNING)
    try:
        prepared: dict[str, Any] = prepare_config(copy.deepcopy(dict(config)))
        validate_config(prepared)
    except ValidationError as error:
        at = ".".join(str(part) for part in error.absolute_path)
        problem = f"'{at}': {error.message}" if at else str(error.message)
    except ClickException:  # it has been told
        problem = "see above"
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        problem = f"{type(error).__name__}: {first_line(error)}"
    else:
        return prepared
    raise UserError(
        f"Ray's launcher does not take {path} ({problem}). Compare it with the file of its "
        "provider in clusters/."
    )


def _node_types(prepared: Mapping[str, Any]) -> list[NodeType]:
    provider = str(prepared["provider"]["type"])
    if provider == "local":
        own = prepared["provider"]
        heads = [str(own["head_ip"])] if "head_ip" in own else []
        workers = [str(address) for address in own.get("worker_ips", ())]
        return [
            NodeType("head" if not n else f"worker {n}", address, False, 1, 1, not n, None)
            for n, address in enumerate([*heads, *workers])
        ]
    found = []
    for name, each in prepared["available_node_types"].items():
        instance, spot = _machine(provider, each.get("node_config") or {})
        is_head = name == prepared["head_node_type"]
        most = min(each["max_workers"], prepared["max_workers"])
        found.append(
            NodeType(
                name,
                instance,
                spot,
                each["min_workers"] + is_head,
                most + is_head,
                is_head,
                price_of(provider, instance, spot),
            )
        )
    return sorted(found, key=lambda each: not each.is_head)


def _machine(provider: str, config: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the provider's name of a machine, and whether it is on the spot market."""
    if provider == "aws":
        market = config.get("InstanceMarketOptions") or {}
        return str(config.get("InstanceType", "")), market.get("MarketType") == "spot"
    if provider == "azure":
        parameters = config.get("azure_arm_parameters") or {}
        return str(parameters.get("vmSize", "")), parameters.get("priority") == "Spot"
    scheduling = config.get("scheduling") or {}
    parts = scheduling if isinstance(scheduling, list) else [scheduling]
    spot = any(part.get("preemptible") or part.get("provisioningModel") == "SPOT" for part in parts)
    name = str(config.get("machineType", "")).rpartition("/")[2]
    # GPUs that are added to a machine cost extra: together they are no machine of the table.
    extra = [
        f"{each.get('acceleratorCount')}x{str(each.get('acceleratorType')).rpartition('/')[2]}"
        for each in config.get("guestAccelerators") or ()
    ]
    return "+".join([name, *extra]), spot


def check_ready(file: LaunchFile) -> None:
    """Refuse a file whose example values were not filled in, or whose local files are not there.

    Raises:
        UserError: If there are any.
    """
    if left := file.to_fill_in():
        raise UserError(
            f"{file.path} is still an example: {some(left)}. Fill in what begins with YOUR-; "
            "docs/clusters/ says where each value comes from."
        )
    auth, mounts = file.config.get("auth") or {}, file.config.get("file_mounts") or {}
    keys = [auth[key] for key in ("ssh_private_key", "ssh_public_key") if key in auth]
    missing = [str(p) for p in (*keys, *mounts.values()) if not Path(str(p)).expanduser().exists()]
    if missing:
        token = " A token is made with 'ray get-auth-token --generate'."
        raise UserError(
            f"{file.path} names files of this machine that are not here: {some(missing)}. Make "
            f"them, or take them out.{token if any('auth_token' in m for m in missing) else ''}"
        )
