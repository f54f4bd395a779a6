"""What Ray's launcher does not make on AWS, or leaves there: roles, key pair, security group.

Roles that the launcher file names are made if they are not there, with the least rights that work;
they, the key pair and the group bear the cluster's name as a tag, and by it are removed again.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo_search.cluster.launch.file import LaunchFile

TAG = "zoo-search-cluster"
_SPREADS = 10.0  # seconds until EC2 knows of a new role
_POLICY = "zoo-search"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def prepare(file: LaunchFile) -> None:
    """Make the roles and the key pair that a file names, where they are not there."""
    iam, made = _client(file, "iam"), False
    for name, rights in roles(file).items():
        made = _make_role(iam, name, rights, file.name) or made
    _make_key(file)
    if made:
        time.sleep(_SPREADS)


def roles(file: LaunchFile) -> dict[str, dict[str, Any]]:
    """Return the rights of each role (instance profile) that a file names, by its name."""
    named: dict[str, bool] = {}
    for name, each in file.config["available_node_types"].items():
        profile = (each.get("node_config") or {}).get("IamInstanceProfile") or {}
        if "Name" in profile:
            is_head = name == file.config["head_node_type"]
            named[profile["Name"]] = named.get(profile["Name"], False) or is_head
    workers = [name for name, is_head in named.items() if not is_head]
    return {name: _rights(file, head, workers) for name, head in named.items()}


def clean_up(file: LaunchFile) -> list[str]:
    """Remove what :func:`prepare` and Ray made for this cluster alone; return what that was."""
    ec2, iam = _client(file, "ec2"), _client(file, "iam")
    return [
        *_remove_group(ec2, file.name),
        *_remove_key(ec2, file.name),
        *(removed for name in roles(file) for removed in _remove_role(iam, name, file.name)),
    ]


def _rights(file: LaunchFile, head: bool, workers: list[str]) -> dict[str, Any]:
    """Return a policy: both read images and use the bucket; the head starts and ends workers."""
    statements: list[dict[str, Any]] = [
        _allow(
            "ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
            "ecr:GetDownloadUrlForLayer",
        ),
    ]  # fmt: skip
    if (file.runs or "").startswith("s3://"):
        bucket = str(file.runs).removeprefix("s3://").partition("/")[0]
        at = f"arn:aws:s3:::{bucket}"
        objects = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
        statements += [
            _allow("s3:ListBucket", "s3:GetBucketLocation", on=at),
            _allow(*objects, on=f"{at}/*"),
        ]
    if head:
        own = {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": file.name}}
        spot = {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}}
        statements += [
            _allow("ec2:RunInstances", "ec2:CreateTags", "ec2:Describe*"),
            {**_allow("ec2:TerminateInstances", "ec2:StopInstances"), "Condition": own},
            {**_allow("iam:CreateServiceLinkedRole"), "Condition": spot},
            *(_allow("iam:PassRole", on=f"arn:aws:iam::*:role/{name}") for name in workers),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(*actions: str, on: str = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on}


def _make_role(iam: Any, name: str, rights: dict[str, Any], cluster: str) -> bool:
    """Make a role and its instance profile unless there is one; say whether it was made."""
    if _has_profile(iam, name):
        return False
    tags = [{"Key": TAG, "Value": cluster}]
    trust = json.dumps(_TRUST)
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, Tags=tags)
    iam.put_role_policy(RoleName=name, PolicyName=_POLICY, PolicyDocument=json.dumps(rights))
    iam.create_instance_profile(InstanceProfileName=name, Tags=tags)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return True


def _has_profile(iam: Any, name: str) -> bool:
    try:
        iam.get_instance_profile(InstanceProfileName=name)
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def _remove_role(iam: Any, name: str, cluster: str) -> Iterator[str]:
    with _unless_missing(iam):
        tags = iam.list_role_tags(RoleName=name)["Tags"]
        if {"Key": TAG, "Value": cluster} not in tags:
            return  # somebody else's
        with _unless_missing(iam):
            iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
        with _unless_missing(iam):
            iam.delete_instance_profile(InstanceProfileName=name)
        with _unless_missing(iam):
            iam.delete_role_policy(RoleName=name, PolicyName=_POLICY)
        iam.delete_role(RoleName=name)
        yield f"role {name}"


@contextlib.contextmanager
def _unless_missing(iam: Any) -> Iterator[None]:
    """Leave the block where what it asks for is not there."""
    with contextlib.suppress(iam.exceptions.NoSuchEntityException):
        yield


def _key_name(file: LaunchFile) -> str | None:
    name = (file.config["provider"].get("key_pair") or {}).get("key_name")
    return None if name is None or "ssh_private_key" in file.config["auth"] else str(name)


def _key_file(name: str) -> Path:
    """Return where Ray looks for the private half of a key pair."""
    return Path(f"~/.ssh/{name}.pem").expanduser()


def _make_key(file: LaunchFile) -> None:
    """Make the key pair that a file names, as Ray would, but with a tag; the private half here."""
    ec2, name = _client(file, "ec2"), _key_name(file)
    if name is None or _key_file(name).exists():
        return
    if ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [name]}])["KeyPairs"]:
        return  # made elsewhere: Ray says what to do
    tags = [{"ResourceType": "key-pair", "Tags": [{"Key": TAG, "Value": file.name}]}]
    made = ec2.create_key_pair(KeyName=name, TagSpecifications=tags)
    place = _key_file(name)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(made["KeyMaterial"])


def _remove_key(ec2: Any, cluster: str) -> Iterator[str]:
    own = [{"Name": f"tag:{TAG}", "Values": [cluster]}]
    for key in ec2.describe_key_pairs(Filters=own)["KeyPairs"]:
        ec2.delete_key_pair(KeyName=key["KeyName"])
        _key_file(key["KeyName"]).unlink(missing_ok=True)
        yield f"key pair {key['KeyName']}"


def _remove_group(ec2: Any, cluster: str) -> Iterator[str]:
    """Remove the group that Ray made; its machines have to be gone, not only ending."""
    tagged = [{"Name": "tag:ray-cluster-name", "Values": [cluster]}]
    states = [{"Name": "instance-state-name", "Values": ["shutting-down", "stopping"]}]
    found = ec2.describe_instances(Filters=[*tagged, *states])["Reservations"]
    if ending := [each["InstanceId"] for part in found for each in part["Instances"]]:
        ec2.get_waiter("instance_terminated").wait(
            InstanceIds=ending, WaiterConfig={"Delay": 5, "MaxAttempts": 120}
        )
    for group in ec2.describe_security_groups(Filters=tagged)["SecurityGroups"]:
        if group["GroupName"] != f"ray-autoscaler-{cluster}":
            continue
        ec2.delete_security_group(GroupId=group["GroupId"])
        yield f"security group {group['GroupName']}"


def _client(file: LaunchFile, service: str) -> Any:
    import boto3

    return boto3.client(service, region_name=file.region)
