"""A cluster on a mock of EC2 on loopback, in a network that has no other address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SSH = """#!/bin/sh
# Stands in for a machine's ssh: notes the command, answers what Ray asks for.
printf '%s\\n' "$*" >> {records}/ssh
for last; do :; done
case "$last" in
  *'command -v docker'*) echo /usr/bin/docker ;;
  *'json .Config.Env'*) echo '["HOME=/root"]' ;;
  *'printenv HOME'*) echo /root ;;
  *'docker run'*) touch {records}/container ;;
  *.State.Running*) [ -e {records}/container ] && echo true || echo false ;;
  *.Config.Image*) echo registry.example/zoo-search:0.1.0 ;;
  *'json .Mounts'*) echo '[{{"Destination": "/root/.ray/auth_token"}}]' ;;
  *meminfo*) cat /proc/meminfo ;;
esac
"""
RSYNC = """#!/bin/sh
# Stands in for rsync: keeps the file that it was to send.
printf '%s\\n' "$*" >> {records}/rsync
for each; do [ -f "$each" ] && cp "$each" {records}/; done
exit 0
"""


def alone() -> list[str]:
    """Return what starts a command in a network of its own, as root or as root of a namespace."""
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if subprocess.run([*alone(), "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system gives no network namespaces")
    import yaml

    place = tmp_path_factory.mktemp("aws")
    programs, records, home = place / "bin", place / "records", place / "home"
    for folder in (programs, records, home / ".ray"):
        folder.mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("token", encoding="utf-8")
    for name, text in (("ssh", SSH), ("rsync", RSYNC)):
        (programs / name).write_text(text.format(records=records), encoding="utf-8")
        (programs / name).chmod(0o755)
    example = (HERE.parents[2] / "clusters" / "aws.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(
        example.replace("YOUR-BUCKET", "pets").replace("YOUR-REGISTRY", "registry.example")
        .replace("ami-YOUR-IMAGE", "later")
    )  # fmt: skip
    file = place / "aws.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "HOME": str(home), "TMPDIR": str(place), "PATH": f"{programs}:{os.environ['PATH']}",
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    script = [sys.executable, str(HERE / "ec2_mock.py"), str(file), str(records)]
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *script]
    done = subprocess.run(
        [*alone(), *inside],
        capture_output=True, text=True, env=environment, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["ssh"] = (records / "ssh").read_text(encoding="utf-8")
    found["rsync"] = (records / "rsync").read_text(encoding="utf-8")
    return found


pytestmark = pytest.mark.cluster
NOTHING: dict[str, Any] = {
    "roles": [], "profiles": [], "policies": {}, "keys": [], "groups": {}, "pem": [],
}  # fmt: skip


def test_questions_make_nothing(story: dict[str, Any]) -> None:
    assert "Nothing of 'zoo-search' runs" in story["before"]["status"]
    assert "removed" not in story["before"]["down"]
    assert story["nothing"] == NOTHING


def test_what_is_started_and_its_price_are_told_before(story: dict[str, Any]) -> None:
    told = story["up"]
    assert told.index("about $0.19 at once, about $3.39 with all workers") < told.index("Launched")
    assert all(word in told for word in ("m6i.xlarge", "g6.2xlarge", "spot", "s3://pets/runs"))


def test_one_head_is_started_with_what_belongs_to_it(story: dict[str, Any]) -> None:
    (head,) = story["instances"]
    assert head == {
        "type": "m6i.xlarge", "state": "running", "profile": "zoo-search-head",
        "groups": ["ray-autoscaler-zoo-search"], "key": "zoo-search", "spot": False,
    }  # fmt: skip
    made = story["made"]
    assert made["roles"] == made["profiles"] == ["zoo-search-head", "zoo-search-worker"]
    assert made["policies"] == {name: ["zoo-search"] for name in made["roles"]}
    assert (made["keys"], made["pem"]) == (["zoo-search"], ["0o600"])


def test_nothing_but_ssh_is_open_to_others(story: dict[str, Any]) -> None:
    (rules,) = story["made"]["groups"].values()
    outside = [rule for rule in rules if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) for rule in outside] == [
        (22, 22, "tcp")
    ]


def test_the_head_runs_our_image_with_the_token_and_starts_ray_on_loopback(
    story: dict[str, Any],
) -> None:
    asked = story["ssh"]
    assert "docker pull registry.example/zoo-search:0.1.0" in asked
    (run,) = (line for line in asked.splitlines() if "docker run" in line)
    assert "RAY_AUTH_MODE=token" in run
    assert "--gpus" not in run
    (start,) = (
        line for line in asked.splitlines() if "ray start --head" in line and "6379" in line
    )
    assert "docker exec" in start
    assert "--dashboard-host=127.0.0.1" in start
    assert "auth_token" in story["rsync"]


def test_a_worker_is_of_the_spot_market_and_in_the_same_group(story: dict[str, Any]) -> None:
    (worker,) = (each for each in story["again"] if each["type"] == "g6.2xlarge")
    assert worker["profile"] == "zoo-search-worker"
    assert worker["groups"] == ["ray-autoscaler-zoo-search"]
    assert worker["key"] == "zoo-search"
    assert worker["spot"]


def test_the_status_says_what_runs_and_costs(story: dict[str, Any]) -> None:
    assert "2 machines: about $0.59 an hour" in story["status"]
    found = [(row["kind"], row["type"], row["price"]) for row in story["rows"]]
    assert found == [("head", "head", 0.192), ("worker", "worker", 0.40)]


def test_a_running_cluster_is_given_the_file_anew_and_keeps_its_head(story: dict[str, Any]) -> None:
    assert [each["type"] for each in story["again"]] == ["m6i.xlarge", "g6.2xlarge"]
    assert story["held"] == 2
    assert story["ssh"].count("ray start --head") == 1


def test_all_of_it_is_removed(story: dict[str, Any]) -> None:
    assert {each["state"] for each in story["ended"]} == {"terminated"}
    assert len(story["ended"]) == 2
    assert story["after"] == NOTHING
    removed = [line.split("  ")[1] for line in story["down"].splitlines() if "removed  " in line]
    assert [what.split()[0] for what in removed[:2]] == ["head", "worker"]
    assert removed[2:] == [
        "security group ray-autoscaler-zoo-search", "key pair zoo-search", "role zoo-search-head",
        "role zoo-search-worker",
    ]  # fmt: skip
