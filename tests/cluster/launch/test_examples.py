"""The files of ``clusters/`` are what Ray, Kubernetes and Docker take, and hold together."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import zoo_search
from zoo_search.cluster.jobs.shared import VARIABLE
from zoo_search.cluster.launch import (
    LaunchFile,
    check_ready,
    plan_lines,
    plan_table,
    read_launch_file,
)
from zoo_search.core.errors import UserError

ROOT = Path(zoo_search.__file__).parents[1]
CLUSTERS = ROOT / "clusters"
LAUNCHED = ("aws", "gcp", "azure", "on-premises")
MANIFESTS = ("kuberay-cluster", "kuberay-job")


@pytest.fixture(params=LAUNCHED)
def example(request: pytest.FixtureRequest) -> LaunchFile:
    return read_launch_file(CLUSTERS / f"{request.param}.yaml")


def commands(file: LaunchFile) -> list[str]:
    both = ("head_start_ray_commands", "worker_start_ray_commands")
    return [line for key in both for line in file.config[key]]


def options_of(command: str) -> dict[str, str]:
    words = shlex.split(command[command.index("ray start") :])[2:]
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def test_the_head_has_no_gpu_and_workers_come_on_the_spot_market_from_none_to_n(
    example: LaunchFile,
) -> None:
    head, *workers = example.nodes
    assert head.is_head
    assert (head.least, head.most, head.spot) == (1, 1, False)
    if example.provider == "local":
        assert [each.instance for each in workers] == ["YOUR-WORKER-1", "YOUR-WORKER-2"]
        return
    (worker,) = workers
    assert (worker.least, worker.most, worker.spot) == (0, 8, True)
    assert "GPU" not in example.config["available_node_types"]["head"]["resources"]
    assert example.config["available_node_types"]["worker"]["resources"]["GPU"] == 1
    assert example.config["idle_timeout_minutes"] == 10
    assert None not in (head.price, worker.price), "our own examples have to have a price"


def test_the_image_is_of_this_version_and_setup_runs_nothing(example: LaunchFile) -> None:
    assert example.image == f"YOUR-REGISTRY/zoo-search:{zoo_search.__version__}"
    assert not any(example.config[f"{when}setup_commands"] for when in ("", "head_", "worker_"))


def test_nothing_but_ssh_is_open_and_a_token_is_asked_for(example: LaunchFile) -> None:
    head = options_of(commands(example)[1])
    assert head["--dashboard-host"] == "127.0.0.1"
    assert "security_group" not in example.config["provider"]
    assert "-e RAY_AUTH_MODE=token" in example.config["docker"]["run_options"]
    assert example.config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_ray_knows_every_option_of_its_start(example: LaunchFile) -> None:
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in parameter.opts}
    used = {name for c in commands(example) if "ray start" in c for name in options_of(c)}
    assert "--autoscaling-config" in used
    assert used <= known


def test_an_example_is_refused_until_it_is_filled_in(example: LaunchFile) -> None:
    with pytest.raises(UserError, match=r"is still an example: .*YOUR-"):
        check_ready(example)
    assert "YOUR-REGISTRY" in str(example.to_fill_in())


def test_runs_lie_where_all_nodes_reach_them(example: LaunchFile) -> None:
    schemes = {"aws": "s3://", "gcp": "gs://", "azure": "abfs://", "local": "/"}
    assert example.runs is not None
    assert example.runs.startswith(schemes[example.provider])


def test_the_plan_names_every_kind_of_machine(example: LaunchFile) -> None:
    rows = plan_table(example, None if example.provider == "local" else 3).rows
    assert [row["name"] for row in rows] == [each.name for each in example.nodes]
    if example.provider != "local":
        head, worker = rows
        price = worker["each"]
        assert isinstance(price, float)
        assert (worker["least"], worker["most"]) == (3, 8)
        assert worker["from"] == pytest.approx(3 * price)
        assert worker["to"] == pytest.approx(8 * price)
        assert head["from"] == head["to"] == head["each"]


def test_jobs_without_a_place_of_their_own_leave_results_where_the_file_says(
    example: LaunchFile,
) -> None:
    runs = example.config["metadata"]["runs"]
    assert example.config["docker"]["head_run_options"] == [f"-e {VARIABLE}={runs}"]


def test_its_page_tells_the_prices_of_the_plan(example: LaunchFile) -> None:
    page = (ROOT / "docs" / "clusters" / f"{example.path.stem}.md").read_text(encoding="utf-8")
    if example.provider == "local":
        assert "Nothing that is known here" in page
        return
    least, most = re.findall(r"about \$[0-9.]+", plan_lines(example)[0])
    with_four = re.findall(r"about \$[0-9.]+", plan_lines(example, 4)[0])[0]
    told = f"(`{least} at once` without workers, `{with_four}` with four, `{most}` with all eight)"
    assert told in " ".join(page.split())


@pytest.mark.parametrize("name", [*LAUNCHED, "kuberay", "slurm"])
def test_every_page_says_how_to_start_watch_pay_and_end_and_what_never_ran(name: str) -> None:
    page = (ROOT / "docs" / "clusters" / f"{name}.md").read_text(encoding="utf-8")
    headings = " ".join(re.findall(r"^##+ (.*)$", page, re.M)).lower()
    assert all(word in headings for word in ("launch", "submit", "watch", "costs", "tear down"))
    assert re.search(r"(it|they) (were )?never (ran|applied)", page, re.I)
    assert "example" in page.partition("## What it costs")[2]
    for link in re.findall(r"\]\((\.\./[^)#]+|[a-z-]+\.md)", page):
        assert (ROOT / "docs" / "clusters" / link).exists()


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_of_kuberays_schema(name: str) -> None:
    schema = yaml.safe_load((Path(__file__).parent / "kuberay.yaml").read_text("utf-8"))
    manifest = yaml.safe_load((CLUSTERS / f"{name}.yaml").read_text("utf-8"))
    validator = Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(manifest)] == []
    spec = cluster_of(manifest)
    spec["workerGroupSpecs"][0]["maxReplica"] = 3
    assert "maxReplica" in str(next(validator.iter_errors(manifest)))


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return found


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_hold_together(name: str) -> None:
    manifest = yaml.safe_load((CLUSTERS / f"{name}.yaml").read_text("utf-8"))
    spec = cluster_of(manifest)
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    assert pinned is not None
    assert spec["rayVersion"] == pinned[1]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        volumes = {each["name"] for each in pod["volumes"]}
        assert {each["name"] for each in container["volumeMounts"]} == volumes
        assert container["image"] == f"YOUR-REGISTRY/zoo-search:{zoo_search.__version__}"
        resources = container["resources"]
        assert resources["limits"] == resources["requests"]
    group = spec["workerGroupSpecs"][0]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_a_job_on_kubernetes_is_a_command_of_ours() -> None:
    import typer

    from zoo_search.cli.app import app

    manifest = yaml.safe_load((CLUSTERS / "kuberay-job.yaml").read_text("utf-8"))
    program, name, *words = shlex.split(manifest["spec"]["entrypoint"])
    assert program == "zoo-search"
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, words).params["address"] == "auto"


def test_the_image_is_made_of_files_that_are_there_with_extras_and_tools_of_ours() -> None:
    text = (CLUSTERS / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    given = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(given["EXTRAS"].split(",")) <= set(project["optional-dependencies"])
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert f"UV     := {given['UV']}\n" in makefile
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for word in line.split()}
    assert copied >= {"pyproject.toml", "constraints.txt", "zoo_search"}
    assert all((ROOT / word).exists() for word in copied)
    kept = (CLUSTERS / "Dockerfile.dockerignore").read_text("utf-8")
    assert {line[1:] for line in kept.splitlines() if line.startswith("!")} == copied
    # rsync into the container, ssh from the head to its workers, wget for KubeRay's probes.
    assert all(program in text for program in ("rsync", "openssh-client", "wget"))
