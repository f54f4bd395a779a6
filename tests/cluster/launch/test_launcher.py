from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zoo_search.cluster.launch import bring_up, launcher, read_launch_file, running
from zoo_search.cluster.launch.aws import roles
from zoo_search.core.errors import UserError

Changed = Callable[..., Path]


@pytest.fixture(autouse=True)
def forget_who_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 and Ray keep clients, with their credentials, for the whole process."""
    import boto3
    from ray.autoscaler._private.aws.utils import client_cache, resource_cache

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    client_cache.cache_clear()
    resource_cache.cache_clear()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, and no machine to ask for some."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("nowhere")
def test_missing_credentials_are_told(changed: Changed) -> None:
    with pytest.raises(UserError, match=r"NoCredentialsError.*Log in first: 'aws configure'"):
        running(read_launch_file(changed("aws")))


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("aws", "boto3", "aws"), ("gcp", "googleapiclient", "gcp"), ("azure", "azure", "azure")],
)
def test_a_missing_package_is_told(
    changed: Changed, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install 'zoo-search\[{extra}\]'"):
        running(read_launch_file(changed(name)))


def test_a_provider_that_does_not_answer_is_told(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # discard: nobody listens
    monkeypatch.setattr("ray.autoscaler._private.aws.node_provider.BOTO_MAX_RETRIES", 0)
    monkeypatch.setattr("ray.autoscaler._private.aws.node_provider.LIST_RETRY_DELAY_SEC", 0)
    with pytest.raises(UserError, match=r"EndpointConnectionError.*Look at the network"):
        running(read_launch_file(changed("aws")))


def test_an_example_starts_nothing(changed: Changed) -> None:
    with pytest.raises(UserError, match="is still an example"):
        bring_up(read_launch_file(changed("aws")))


def test_programs_that_ray_needs_are_looked_for_before_anything_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"no ssh and no rsync\. Nothing was started"):
        launcher._require_programs()


@pytest.mark.parametrize("number", [9, 100])
def test_more_workers_than_allowed_are_refused(changed: Changed, number: int) -> None:
    with pytest.raises(UserError, match=r"allows 0 to 8 of 'worker'"):
        launcher._with_workers(read_launch_file(changed("aws")), number)


def test_workers_of_ones_own_machines_are_those_of_the_file(changed: Changed) -> None:
    with pytest.raises(UserError, match="not one kind of workers"):
        launcher._with_workers(read_launch_file(changed("on-premises")), 1)


def test_so_many_workers_are_asked_for_and_nothing_else_changes(changed: Changed) -> None:
    file = read_launch_file(changed("gcp"))
    config = launcher._with_workers(file, 3)
    assert config["available_node_types"]["worker"].pop("min_workers") == 3
    plain = {**file.config}
    assert plain["available_node_types"]["worker"].pop("min_workers") == 0
    assert config == plain


def test_workers_use_the_bucket_alone_and_the_head_ends_its_own_machines(changed: Changed) -> None:
    file = read_launch_file(changed("aws", metadata__runs="s3://pets/runs"))
    rights = roles(file)
    assert list(rights) == ["zoo-search-head", "zoo-search-worker"]
    allowed = {
        name: {action: (each["Resource"], each.get("Condition")) for each in of["Statement"]
               for action in each["Action"]}
        for name, of in rights.items()
    }  # fmt: skip
    worker, head = allowed["zoo-search-worker"], allowed["zoo-search-head"]
    assert {action.partition(":")[0] for action in worker} == {"s3", "ecr"}
    assert worker["s3:PutObject"] == ("arn:aws:s3:::pets/*", None)
    assert head["iam:PassRole"] == ("arn:aws:iam::*:role/zoo-search-worker", None)
    assert head["ec2:TerminateInstances"][1] == {
        "StringEquals": {"ec2:ResourceTag/ray-cluster-name": "zoo-search"}
    }
