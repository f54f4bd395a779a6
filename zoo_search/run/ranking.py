"""The zoo models on the target images, ranked without training and without a run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo_search.config import JobConfig, JobSource
from zoo_search.core.errors import UserError
from zoo_search.core.progress import working
from zoo_search.core.tables import in_units
from zoo_search.core.yaml_text import read_yaml
from zoo_search.run.images import check_images
from zoo_search.run.run import Run, check_names

if TYPE_CHECKING:
    from zoo_search.reassembly.ranking import RankedModel

WEIGHTS_SIGN = "@"
"""Between the name of an architecture and where its weights are."""

_LIMITS = (
    ("max_params", "most", 1e6, "M parameters"),
    ("min_params", "least", 1e6, "M parameters"),
    ("max_macs", "most", 1e9, "G MACs"),
    ("min_macs", "least", 1e9, "G MACs"),
    ("max_latency_ms", "most", 1, "ms"),
    ("max_memory", "most", 1e6, "MB of activations"),
)


@dataclass(frozen=True)
class ZooRanking:
    """Zoo models in the order in which they would be taken, and how that is to be read.

    Attributes:
        models: Those within the budget first, each group best first.
        proxy: What they are ranked by.
        meaning: What its number says, in words.
        job: What was ranked, with its budget.
    """

    models: list[RankedModel]
    proxy: str
    meaning: str
    job: JobConfig

    def words(self) -> list[str]:
        """Return what the numbers say and what the order is, a paragraph each."""
        fit, order = sum(row["in_budget"] for row in self.models), "The models are sorted"
        if self.limited and fit == len(self.models):
            order = f"All models fit the budget ({self._budget()}), and are sorted"
        elif self.limited:
            order = (
                f"{fit} of {len(self.models)} models fit the budget ({self._budget()}) and come "
                "first. The others follow; a run may still take blocks of them. Both are sorted"
            )
        found = [f"{self.proxy}: {self.meaning}"]
        judged = next((row for row in self.models if row["expected_accuracy"] is not None), None)
        if judged is not None:
            found.append(
                "accuracy: what a linear head on the frozen features gets right of images that it "
                f"was not fitted to ({judged['folds']}-fold cross-validation over "
                f"{judged['held_out']} training images), with its standard error: two models that "
                "are less than two or three of these apart may as well be equal. Naming the most "
                f"frequent class every time gets {100 * (judged['guessed'] or 0):.0f} %. The "
                "fine-tuning of a run starts from such heads; the test images are not looked at."
            )
        order += f" by {self.proxy}, best first."
        return [*found, order, "A MAC is one multiply-add; some tools count it as two FLOPs."]

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        config = self.job.budget
        return bool(config.licenses is not None or self._budget())

    def _budget(self) -> str:
        said = [
            f"at {end} {in_units(getattr(self.job.budget, limit), unit)} {words}"
            for limit, end, unit, words in _LIMITS
            if getattr(self.job.budget, limit)
        ]
        licenses = self.job.budget.licenses
        return ", ".join([*said, *([] if licenses is None else [" or ".join(licenses)])])


def rank_zoo(
    job: JobSource, proxy: str, *, address: str | None = None, seed: int | None = None
) -> ZooRanking:
    """Rank the zoo models by a training-free score on the training images.

    Raises:
        UserError: What a user can mend: the run file, the images, the proxy, the weights.
    """
    opened = Run.open(job, None, address, seed)
    # Not before: a mistake in the run file needs no torch.
    from zoo_search.reassembly import rank
    from zoo_search.reassembly.proxies import find_proxies, meaning_of

    meaning = meaning_of(proxy, find_proxies([proxy], "proxy")[proxy])
    with working("images: listing"):
        check_names(opened.job)
        check_images(opened, ["reassemble"])
    with working("zoo: loading"):
        opened.prepare()
        zoo, train = opened.zoo, opened.dataset.select("train", seed=opened.job.seed)
    classes = len(opened.dataset.classes)
    rows = rank(zoo, train, classes, proxy, opened.job, validate=True)
    return ZooRanking(
        sorted(rows, key=lambda row: not row["in_budget"]), proxy, meaning, opened.job
    )


def job_of(
    images: str, models: Sequence[str], input_size: int | None, budget: Sequence[str]
) -> dict[str, object]:
    """Return what a run file for a folder of images and some models would hold.

    Args:
        images: Path or URI of a folder with a folder for each class.
        models: A timm name each, with timm's weights, or ``NAME@WEIGHTS``, weights as a run file
            has them: a file, ``hf-hub:ORG/NAME``, ``package:NAME/FILE``.
        input_size: At which all models run; None: each at its own.
        budget: ``KEY=VALUE`` each, as in the section ``budget`` of a run file.

    Raises:
        UserError: If there is no model, one is given twice, or a limit is none.
    """
    if not models:
        raise UserError(
            "--images says which images, and no model is given to rank on them. Add names of timm, "
            "as in: zoo-search rank --images images/pets resnet18 vit_small_patch16_224"
        )
    zoo: dict[str, Mapping[str, object]] = {}
    for word in models:
        arch, at, weights = word.partition(WEIGHTS_SIGN)
        if arch in zoo:
            raise UserError(
                f"'{arch}' is given twice, and each model has its name in the table. Give it once."
            )
        zoo[arch] = {"arch": arch, **({"weights": weights} if at else {})}
    limits: dict[str, object] = {}
    for limit in budget:
        key, equals, text = limit.partition("=")
        if not equals or not key:
            raise UserError(
                f"--budget {limit}: give a limit by its name in a run file and its value, as in "
                "--budget max_macs=5e9 or --budget max_params=30e6."
            )
        limits[key] = read_yaml(text, f"--budget {key}")[1]
    return {
        "name": "rank",
        "zoo": zoo,
        "dataset": {"name": "folder", "path": images},
        "budget": limits,
        **({} if input_size is None else {"input_size": input_size}),
    }
