"""What is compared in one setting of the proof benchmark, and what each got right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from winners_extra import Trainer

from zoo_search.finetune.answers import right_of
from zoo_search.finetune.entries import Result, Winners, best, best_first
from zoo_search.reassembly.ranking import rank
from zoo_search.run.run import Run

Row = dict[str, Any]
Right = npt.NDArray[np.bool_]


class Comparison:
    """Reads a finished run, and trains beside it what it has not trained."""

    def __init__(self, done: Run, say: Callable[[str], None]) -> None:
        self._done, self._say = done, say
        self._winners = Winners.read(done.store)
        self._right = right_of(done.store, self._winners.results)
        self._seeds = done.job.finetune.seeds
        self._trainer = Trainer(done)
        self._reproduced: dict[str, float] = {}

    def row(self) -> Row:
        """Return what is compared, and all that tells why it is so."""
        winners = self._winners
        singles = best_first(r for r in winners.results if r.role == "single")
        picked = {proxy: self._picked(proxy) for proxy in ("logme", "leep")}
        found = {
            role: self._told(result)
            for role in ("reassembly", "single", "random")
            if (result := best(winners.results, role)) is not None
        }
        found |= {name: self._single(*one) for name, one in picked.items() if one is not None}
        found |= {r.name: self._told(r) for r in winners.results if r.role == "plain"}
        if (winner := best(winners.results, "reassembly")) is not None:
            found["random weights"] = self._without_weights(winner)
        if len(singles) > 1:
            found["ensemble"] = self._ensemble(*singles[:2])
        return {
            "train_images": winners.train_images,
            "validation_images": winners.validation_images,
            "test_images": winners.test_images,
            "classes": len(winners.classes),
            "contenders": found,
            "networks": [_facts(result) for result in winners.results],
            "given_up": [vars(network) for network in winners.given_up],
            # Difference in accuracy where a network was trained by the run and again here.
            "reproduced": self._reproduced,
        }

    def _told(self, result: Result) -> Row:
        return _contender(result, self._right[result.name])

    def _picked(self, proxy: str) -> tuple[str, int, int] | None:
        """Return the zoo model within the budget that a score puts first, with its cost."""
        run = self._done
        train = run.dataset.select("train", seed=run.job.seed)
        for row in rank(run.zoo, train, len(run.dataset.classes), proxy, run.job, run.store):
            if row["in_budget"] and row["score"] is not None:
                return row["model"], row["params"], row["macs"]
        return None

    def _single(self, name: str, params: int, macs: int) -> Row:
        """Return a zoo model; the run may not have trained it with all seeds."""
        known = self._known(name)
        if known is not None and len(known.told) == self._seeds:
            return self._told(known)
        right = self._trainer.right(self._probabilities(name))
        recipe = str(self._trainer.whole(name).recipe)
        costs = {"params": params, "macs": macs}
        return {"name": name, "recipe": recipe, **costs, "right": _bits(right)}

    def _known(self, name: str) -> Result | None:
        found = (r for r in self._winners.results if (r.role, r.name) == ("single", name))
        return next(found, None)

    def _probabilities(self, name: str) -> npt.NDArray[np.float32]:
        """Train a zoo model with all seeds; see that it goes as in the run."""
        self._say(f"training {name} beside the run")
        said = self._trainer.probabilities([self._trainer.whole(name)] * self._seeds)
        if name in self._right:
            theirs = self._right[name]
            ours = self._trainer.right(said)[: len(theirs)]
            self._reproduced[name] = float(ours.mean() - theirs.mean())
        return said

    def _without_weights(self, winner: Result) -> Row:
        self._say("training the architecture of the best reassembly from random weights")
        numbers = range(self._seeds)
        entries = [self._trainer.without_weights(winner.recipe, number) for number in numbers]
        return _contender(winner, self._trainer.right(self._trainer.probabilities(entries)))

    def _ensemble(self, first: Result, second: Result) -> Row:
        # The mean has the highest class where the sum has it.
        said = self._probabilities(first.name) + self._probabilities(second.name)
        return {
            "name": f"{first.name} and {second.name}",
            "recipe": f"{first.recipe} and {second.recipe}",
            "params": first.params + second.params,
            "macs": first.macs + second.macs,
            "right": _bits(self._trainer.right(said)),
        }


def _contender(result: Result, right: Right) -> Row:
    return {
        "name": result.name,
        "recipe": str(result.recipe),
        "params": result.params,
        "macs": result.macs,
        "right": _bits(right),
    }


def _facts(result: Result) -> Row:
    """Return what is worth knowing of a network of the run."""
    return {
        "name": result.name,
        "role": result.role,
        "recipe": str(result.recipe),
        "params": result.params,
        "macs": result.macs,
        "scores": dict(result.scores),
        "validation": result.validation,
        "test": [training.last.test_accuracy for training in result.told],
        "seconds": [
            round(sum(protocol.seconds for protocol in training.protocols.values()), 1)
            for training in result.trainings
        ],
    }


def _bits(right: Right) -> list[str]:
    """Return a text of zeros and ones for each training."""
    return ["".join(map(str, row.astype(int))) for row in right]
