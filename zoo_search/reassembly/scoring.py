"""Scoring recipes in one process: the blocks are held once, a stitch is fitted once a joint."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.identity import code_identity, fingerprint
from zoo_search.core.imports import import_timm
from zoo_search.hooks import Init
from zoo_search.networks.assemble import assemble
from zoo_search.networks.cache import TensorCache
from zoo_search.networks.fitter import StitchFitter, StitchKeeper
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.parents import Parent
from zoo_search.networks.recipe import Recipe
from zoo_search.networks.target_images import Images
from zoo_search.reassembly.candidates import Outcome
from zoo_search.reassembly.proxies import PROXIES, Batches, Proxy, find_proxies, score, traits_of

if TYPE_CHECKING:
    import ray

_CACHE_BYTES = 2**29  # each of the two caches of a scorer


@dataclass(frozen=True)
class Scoring:
    """What decides on a score beside the networks and the images."""

    # The first one ranks.
    proxies: Mapping[str, Proxy] = field(default_factory=lambda: find_proxies(["probe"]))
    # Hooks that only this process knows by name come as ``hooks.as_hooks`` returns them.
    init: Init = "least_squares"
    fit_images: int = 256  # the first so many fit the stitches
    batches: int = 5  # a score
    batch_size: int = 32
    seed: int = 0  # of batches, random stitches and heads

    @property
    def batch_images(self) -> int:
        """How many images the batches are drawn from, at most."""
        return 4 * self.batches * self.batch_size

    def conditions(self) -> dict[str, dict[str, str | int | None]]:
        """Return what has to be equal for two scores to be compared, by proxy, as plain JSON.

        ``images`` are how many a score looks at, or ``"all"`` different ones; ``batches`` and
        ``batch_size`` are None where none are drawn, ``precision`` where nothing is passed forward.
        A proxy of the user's own has the hash of its ``code``.
        """
        count = self.batches * self.batch_size
        counts: dict[str, int | str] = {"batches": count, "all": "all", "none": 0}
        found: dict[str, dict[str, str | int | None]] = {}
        for name, proxy in self.proxies.items():
            traits = traits_of(proxy)
            drawn = traits.images == "batches"
            found[name] = {
                "proxy": name,
                "hooks": traits.hooks,
                "version": traits.version,
                "images": counts[traits.images],
                "batches": self.batches if drawn else None,
                "batch_size": self.batch_size if drawn else None,
                "seed": self.seed,
                "precision": traits.precision,
            }
            if name not in PROXIES.ours:
                found[name]["code"] = fingerprint([code_identity(proxy)])
        return found


@dataclass(frozen=True, eq=False)
class ScoringTask:
    """What candidates are scored on, and how."""

    zoo: Mapping[str, Parent]
    images: Images  # of the target (see :mod:`zoo_search.networks.target_images`)
    labels: Tensor | None  # ``[N]`` class indices
    num_classes: int
    scoring: Scoring = Scoring()
    keeper: StitchKeeper | None = None  # keeps fitted stitches for other workers and other runs

    def batches(self, cache: TensorCache | None = None) -> Batches:
        """Return the batches that proxies look at."""
        how = self.scoring
        return Batches(
            self.images, self.labels, how.batches, how.batch_size, how.seed, cache, self.zoo
        )

    def fitter(self) -> StitchFitter:
        """Return what fits the stitches."""
        images, count = self.images, self.scoring.fit_images
        if isinstance(images, Tensor):
            images = images[:count]
        else:
            images = {name: x[:count] for name, x in images.items()}
        return StitchFitter(self.zoo, images, max_bytes=_CACHE_BYTES, keeper=self.keeper)

    def assembled(self, recipe: Recipe, fitter: StitchFitter) -> ReassembledNet:
        """Return the network of a candidate, on the zoo's own blocks."""
        return assemble(
            recipe,
            self.zoo,
            self.scoring.init,
            num_classes=self.num_classes,
            seed=self.scoring.seed,
            fitter=fitter,
            copy_blocks=False,
        )


class Scorer:
    """Scores recipes; the same seed gives the same scores in any order and in any process."""

    def __init__(self, task: ScoringTask, device: str = "cpu") -> None:
        self.task = task
        for model in task.zoo.values():
            for module in (*(node.module for node in model.graph), model.graph.head):
                module.eval().to(device)
        self.batches = task.batches(TensorCache(_CACHE_BYTES))
        self.fitter = task.fitter()

    def __call__(self, recipe: Recipe, proxies: Sequence[str] | None = None) -> Outcome:
        """Score one recipe by all proxies, or by some of them.

        An error or a score that is not finite is a reason, not a score.
        """
        started = time.perf_counter()
        scores, reasons = {}, []
        try:
            net = self.task.assembled(recipe, self.fitter)
        except (UserError, RuntimeError, ValueError) as error:
            reason = f"assembly: {first_line(error)}"
            return Outcome({}, reason, time.perf_counter() - started)
        for name, proxy in self.task.scoring.proxies.items():
            if proxies is not None and name not in proxies:
                continue
            try:
                scores[name] = score(net, proxy, self.batches)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                reasons.append(f"{name}: {first_line(error)}")
        init = [report.to_dict() for report in net.init_reports]
        return Outcome(scores, "; ".join(reasons), time.perf_counter() - started, init)


class HostedScorer:
    """A scorer as the role of a host: recipes and outcomes are JSON.

    Its task comes as a reference in a list. Where the zoo's models are timm's, that is imported the
    quick way, before the task that needs it.
    """

    def __init__(self, task: Sequence[ray.ObjectRef[ScoringTask]], timm: bool) -> None:
        import ray

        if timm:
            import_timm()
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self._scorer = Scorer(ray.get(task[0]), "cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, recipe: str, proxies: Sequence[str]) -> tuple[float, str]:
        """Return the first score, or 0 where there is none, and the outcome."""
        outcome = self._scorer(Recipe.from_any(json.loads(recipe)), proxies)
        return next(iter(outcome.scores.values()), 0.0), json.dumps(vars(outcome))


def check_hooks(task: ScoringTask, recipes: Sequence[Recipe]) -> None:
    """Start candidates (at least one), as their scoring would, until one works.

    So a user's hook that fails on whatever it is given is found before the search, and not as the
    reason of every candidate.

    Raises:
        UserError: If none works: what was wrong with the first.
    """
    fitter = task.fitter()
    errors = []
    for recipe in recipes:
        try:
            task.assembled(recipe, fitter)
            return
        except UserError as error:
            errors.append(error)
    raise errors[0]
