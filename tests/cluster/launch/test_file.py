from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo_search.cluster.launch import check_ready, plan_lines, plan_table, read_launch_file
from zoo_search.core.errors import UserError
from zoo_search.core.tables import Row

Changed = Callable[..., Path]
WORKER = "available_node_types__worker__node_config__"


def shown(table: Any, field: str) -> list[str]:
    (column,) = (each for each in table.columns if each.field == field)
    return [column.shown(row) for row in table.rows]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "line 1 is not valid YAML"),
        ("- a", "is not a launcher file of Ray's"),
        ("cluster_name: a", "is not a launcher file of Ray's"),
        ("cluster_name: a\nprovider: {typ: aws}", "is not a launcher file of Ray's"),
        (
            "cluster_name: a\nprovider: {type: asw}",
            "'asw', which is unknown here. Did you mean",
        ),
        (
            "apiVersion: ray.io/v1\nkind: RayJob",
            r"of Kubernetes \(RayJob\).*kubectl apply",
        ),
        ("provider: {type: local}", "does not take .*see above"),
    ],
)
def test_what_is_no_launcher_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        read_launch_file(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml cannot be read"):
        read_launch_file(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_workers": -1}, "'max_workers': -1 is less than the minimum"),
        ({"max_wrokers": 1}, "'max_wrokers' was unexpected"),
        ({"head_node_type": "hed"}, "head_node_type"),
        ({"docker": {"image": "a"}}, "Must provide a container & image name"),
    ],
)
def test_what_ray_does_not_take_is_told(changed: Changed, changes: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_launch_file(changed("aws", **changes))


@pytest.mark.parametrize(
    ("name", "changes", "price"),
    [
        ("aws", {}, 0.40),
        ("aws", {f"{WORKER}InstanceMarketOptions": None}, 0.978),
        ("aws", {f"{WORKER}InstanceType": "g6.12xlarge"}, None),  # on the spot market
        ("aws", {f"{WORKER}InstanceType": "g99.xlarge"}, None),
        ("gcp", {}, 0.34),
        ("gcp", {f"{WORKER}scheduling": [{"preemptible": True}]}, 0.34),
        ("gcp", {f"{WORKER}scheduling": {"provisioningModel": "STANDARD"}}, 0.854),
        ("gcp", {f"{WORKER}machineType": "zones/us-central1-a/machineTypes/g2-standard-4"}, 0.28),
        ("gcp", {
            f"{WORKER}machineType": "e2-standard-4",
            f"{WORKER}guestAccelerators": [{"acceleratorType": "nvidia-t4", "acceleratorCount": 1}],
        }, None),
        ("azure", {}, 0.16),
        ("azure", {f"{WORKER}azure_arm_parameters__priority": "Regular"}, 0.526),
    ],
)  # fmt: skip
def test_a_worker_has_the_price_of_its_machine_and_market_or_none(
    changed: Changed, name: str, changes: Any, price: float | None
) -> None:
    file = read_launch_file(changed(name, **changes))
    worker = file.type_of("worker")
    assert worker is not None
    assert worker.price == price
    assert shown(plan_table(file), "each")[1] == (
        "price unknown" if price is None else f"{price:.2f}"
    )


def test_the_price_of_an_hour_says_what_is_not_known(changed: Changed) -> None:
    known = plan_lines(read_launch_file(changed("aws")))
    assert known[0] == "an hour   about $0.19 at once, about $3.39 with all workers"
    assert "rough" in known[-1]
    assert "not checked" in known[-1]
    partly = plan_lines(read_launch_file(changed("aws", **{f"{WORKER}InstanceType": "g99.large"})))
    assert "about $0.19 at once, more than $0.19 (price unknown for some)" in partly[0]
    held = plan_lines(read_launch_file(changed("aws")), workers=2)
    assert held[0].startswith("an hour   about $0.99 at once")
    own = plan_lines(read_launch_file(changed("on-premises")))
    assert own[-1] == "Your own machines: no price is known."
    assert not any("$" in line for line in own)


def test_files_of_this_machine_have_to_be_here(
    changed: Changed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    filled: dict[str, Any] = {
        "docker__image": "image", "metadata__runs": "s3://b/runs", "docker__head_run_options": [],
        "available_node_types__head__node_config__ImageId": "ami-1", f"{WORKER}ImageId": "ami-1",
    }  # fmt: skip
    file = read_launch_file(changed("aws", **filled))
    with pytest.raises(UserError, match=r"~/.ray/auth_token.*ray get-auth-token --generate"):
        check_ready(file)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t", encoding="utf-8")
    check_ready(file)
    keyed = read_launch_file(changed("aws", **filled, auth__ssh_private_key="~/none.pem"))
    with pytest.raises(UserError, match=r"not here: ~/none\.pem\. Make them, or take them out\.$"):
        check_ready(keyed)


def test_rows_are_json(changed: Changed) -> None:
    rows: list[Row] = list(plan_table(read_launch_file(changed("gcp"))).rows)
    assert {type(value) for row in rows for value in row.values()} <= {str, int, float}
