"""The best network of a run that may not be over, and what it has kept on the way there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore

_KEY = re.compile(r"[0-9a-f]{16}")  # of a training (finetune.trained, which imports torch)
_CANDIDATES, _WINNERS = "candidates.parquet", "winners.json"
_MOST = 1000  # networks whose records are read: each is a file


@dataclass(frozen=True)
class Best:
    """The best network so far."""

    of: Literal["winners", "race", "candidates"]
    """What told it: the trained networks, those that race, or the scores of the search."""
    name: str
    value: float
    """Accuracy on the validation images, or what else chooses; of candidates, their score."""
    words: str


def best_so_far(store: RunStore) -> Best | None:
    """Return the best network: of those that were trained, else that race, else that have scores.

    Of what was trained, reassemblies alone; of what races, all networks. Damaged files tell
    nothing.
    """
    for find in (_of_winners, _of_race, _of_candidates):
        try:
            found = find(store)
        except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if found is not None:
            return found
    return None


def kept_so_far(store: RunStore, steps: Collection[str]) -> tuple[str, ...]:
    """Return what lies there of unfinished steps, in words."""
    said = []
    if "similarity" in steps and (models := store.list("grams")):
        said.append(f"Gram files of {_count(len(models), 'model')}")
    if "reassemble" in steps and (stitches := store.list("stitches")):
        said.append(_count(len(stitches), "fitted stitch", "fitted stitches"))
    if "finetune" in steps:
        racing = [key for key in store.list("race") if _KEY.fullmatch(key)]
        if racing:
            legs = sum(len(store.list(f"race/{key}")) for key in racing[:_MOST])
            said.append(f"{_count(legs, 'leg')} of the race by {_count(len(racing), 'training')}")
        if done := [key for key in store.list("finetune") if _KEY.fullmatch(key)]:
            said.append(f"{_count(len(done), 'training')} to the end")
    return tuple(said)


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number} {one}" if number == 1 else f"{number} {more or one + 's'}"


def _of_winners(store: RunStore) -> Best | None:
    if not store.exists(_WINNERS):
        return None
    from zoo_search.finetune.entries import Winners, best

    winners = Winners.read(store)
    found = best(winners.results, "reassembly")
    if found is None:
        return None
    if found.judged is None:
        score = found.accuracy
        return Best("winners", found.name, score, f"{found.name}, {score:.1%} of the test images")
    score = found.judged[0]
    metric = winners.metric.replace("_", " ")
    told = f"{found.name}, {metric} {score:.1%} on the validation images"
    return Best("winners", found.name, score, told)


def _of_race(store: RunStore) -> Best | None:
    """Return the best of the race's records, each with the hash of what it says beside it."""
    found: tuple[float, str, int] | None = None
    for key in [key for key in store.list("race") if _KEY.fullmatch(key)][:_MOST]:
        for name in store.list(f"race/{key}")[-1:]:
            record = _kept(store, f"race/{key}/{name}")
            score = float(record.get("validation_score") or record["validation_accuracy"])
            if found is None or score > found[0]:
                found = score, key, int(name.removesuffix(".json"))
    if found is None:
        return None
    score, key, epochs = found
    name = next((network for network, its in _logged(store) if its == key), f"training {key}")
    told = f"{name}, {score:.1%} on the validation images after {_count(epochs, 'epoch')}"
    return Best("race", name, score, f"{told} (it races)")


def _logged(store: RunStore) -> Iterator[tuple[str, str]]:
    """Yield the networks whose curves are logged, each with the key of its training."""
    for folder in store.list("logs"):
        if store.exists(f"logs/{folder}/steps.json"):
            yield unquote_plus(folder), str(_kept(store, f"logs/{folder}/steps.json")["key"])


def _kept(store: RunStore, name: str) -> dict[str, Any]:
    found: dict[str, Any] = store.read_json(name)["kept"]
    return found


def _of_candidates(store: RunStore) -> Best | None:
    """Return the candidate with the highest score by the first proxy of the run."""
    if not store.exists(_CANDIDATES):
        return None
    from zoo_search.config import read_job
    from zoo_search.reassembly import step
    from zoo_search.reassembly.candidates import best_first

    proxy = read_job(store).search.proxies[0]
    ranked = best_first(step.read(store), proxy)
    if not ranked:
        return None
    first = ranked[0]
    what = " + ".join(f"{b.model} {b.start}-{b.stop}" for b in first.recipe.blocks)
    score = first.scores[proxy]
    return Best("candidates", what, score, f"{what}, {proxy} {score:.4g} (not trained yet)")
