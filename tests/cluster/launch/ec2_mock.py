"""The whole life of a cluster on a mock of EC2, told as JSON; run in a network of its own.

``python ec2_mock.py LAUNCH_FILE RECORDS`` expects stand-ins for ssh and rsync on its PATH, which
write what they are asked for into RECORDS.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LAUNCH, RECORDS = Path(sys.argv[1]), Path(sys.argv[2])
TAGS = [{"Name": "tag:ray-cluster-name", "Values": ["zoo-search"]}]


@contextlib.contextmanager
def mock() -> Iterator[None]:
    """Serve a mock of AWS on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (RECORDS / "moto.log").open("wb") as log, subprocess.Popen(command, stderr=log) as server:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.1)
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        try:
            yield
        finally:
            server.terminate()


def command(*words: str) -> str:
    """Run a command of ours in this process, and return what it printed."""
    from zoo_search.cli import app

    sys.argv = ["zoo-search", "cluster", *words]
    with (RECORDS / "out").open("w") as out, contextlib.redirect_stdout(out):
        try:
            app.main()
        except SystemExit as ended:
            if ended.code:
                raise
    return (RECORDS / "out").read_text("utf-8")


def client(service: str) -> Any:
    import boto3

    return boto3.client(service, region_name="us-west-2")


def instances() -> list[dict[str, Any]]:
    found = client("ec2").describe_instances(Filters=TAGS)["Reservations"]
    return [
        {
            "type": each["InstanceType"],
            "state": each["State"]["Name"],
            "profile": each.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2],
            "groups": [group["GroupName"] for group in each["SecurityGroups"]],
            "key": each["KeyName"],
            "spot": each.get("InstanceLifecycle") == "spot",
        }
        for part in found
        for each in part["Instances"]
    ]


def left() -> dict[str, Any]:
    """Return what there is beside machines."""
    ec2, iam = client("ec2"), client("iam")
    groups = ec2.describe_security_groups()["SecurityGroups"]
    roles = sorted(role["RoleName"] for role in iam.list_roles()["Roles"])
    return {
        "roles": roles,
        "profiles": sorted(each["InstanceProfileName"]
                           for each in iam.list_instance_profiles()["InstanceProfiles"]),
        "policies": {role: iam.list_role_policies(RoleName=role)["PolicyNames"] for role in roles},
        "keys": [key["KeyName"] for key in ec2.describe_key_pairs()["KeyPairs"]],
        "groups": {group["GroupName"]: group["IpPermissions"] for group in groups
                   if group["GroupName"] != "default"},
        "pem": [oct(path.stat().st_mode & 0o777)
                for path in Path("~/.ssh").expanduser().glob("*.pem")],
    }  # fmt: skip


def on_the_head() -> dict[str, Any]:
    """Return what the head was given to start its workers by."""
    sent = sorted(RECORDS.glob("ray-bootstrap-*"), key=lambda path: path.stat().st_mtime)[-1]
    found: dict[str, Any] = json.loads(sent.read_text("utf-8"))
    return found


def start_worker(config: dict[str, Any]) -> None:
    """Start one worker as the head's autoscaler does: by Ray's provider, with its tags."""
    from ray.autoscaler._private.providers import _get_node_provider

    provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    tags = {"ray-node-type": "worker", "ray-user-node-type": "worker", "ray-node-name": "w"}
    provider.create_node(config["available_node_types"]["worker"]["node_config"], tags, 1)


def main() -> None:
    file, told = str(LAUNCH), {}
    with mock():
        text = yaml.safe_load(LAUNCH.read_text("utf-8"))
        image = client("ec2").describe_images()["Images"][0]["ImageId"]
        for each in text["available_node_types"].values():
            each["node_config"]["ImageId"] = image
        LAUNCH.write_text(yaml.safe_dump(text), encoding="utf-8")

        told["before"] = {"status": command("status", file), "down": command("down", file, "-y")}
        told["nothing"] = left()
        told["up"] = command("up", file, "--yes")
        told["instances"], told["made"] = instances(), left()
        start_worker(on_the_head())
        told["status"] = command("status", file)
        told["rows"] = json.loads(command("status", file, "--json"))
        command("up", file, "--workers", "2", "--yes")
        told["again"] = instances()
        told["held"] = on_the_head()["available_node_types"]["worker"]["min_workers"]
        told["down"] = command("down", file, "--yes")
        told["ended"], told["after"] = instances(), left()
    print("\n" + json.dumps(told))


if __name__ == "__main__":
    main()
