"""How a network is trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset
from zoo_search.finetune import selection
from zoo_search.finetune.networks import build_networks
from zoo_search.finetune.tasks import schedule_of
from zoo_search.zoo import load_zoo


def test_a_plain_trial_may_have_weights(job: dict[str, Any], tmp_path: Path) -> None:
    """Then it is started and trained as the single models of the zoo are."""
    plain = {"y": {**job["zoo"]["b"]}, "z": {"arch": "mobilenetv3_small_050"}}
    config = load_job(job | {"finetune": {"plain": plain}})
    zoo = load_zoo(config)
    y, z = selection._plain(config, zoo)
    assert y.models["y"].weights_hash == zoo["b"].weights_hash
    made = build_networks([y, z], zoo, open_dataset(config.dataset, 0).select("train"), config, 0)
    assert [network.fitted for network in made] == [True, False]
    assert [schedule_of(network, config, config.finetune.protocol)[1] for network in made] == [
        ("frozen", "full"),
        ("full",),
    ]
    assert schedule_of(made[1], config, config.finetune.protocol)[0].epochs("full") == 30
    wrong = {"y": {"arch": "mobilenetv3_small_050", "weights": str(tmp_path / "none.safetensors")}}
    with pytest.raises(UserError, match=r"^finetune\.plain\.y\.weights"):
        selection._plain(load_job(job | {"finetune": {"plain": wrong}}), zoo)


@pytest.mark.parametrize(
    ("fitted", "protocol", "frozen", "full"),
    [
        (True, ("frozen", "full"), True, True),
        (True, ("full",), True, True),
        (False, ("frozen", "full"), False, True),  # after FROZEN-TUNING it is fitted
        (False, ("full",), False, False),
    ],
)
def test_what_fits_nothing_yet_has_no_limits_and_is_not_renewed(
    job: dict[str, Any], fitted: bool, protocol: tuple[str, ...], frozen: bool, full: bool
) -> None:
    config = load_job(job | {"finetune": {"protocol": list(protocol)}})
    network: Any = SimpleNamespace(
        entry=SimpleNamespace(role="reassembly"), models=load_zoo(config), fitted=fitted
    )
    schedule, protocols = schedule_of(network, config, config.finetune.protocol)
    assert protocols == protocol
    assert (schedule.step_limit is not None) == frozen
    assert (schedule.step_limit_full is not None) == full == schedule.renew
