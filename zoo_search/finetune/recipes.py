"""How a network is fine-tuned: named training recipes as frozen facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from zoo_search.errors import UserError, nearest

__all__ = ["PROTOCOLS", "RECIPES", "Protocol", "TrainRecipe", "train_recipe"]

Protocol = Literal["frozen", "full"]
PROTOCOLS: tuple[Protocol, ...] = ("frozen", "full")


@dataclass(frozen=True)
class TrainRecipe:
    """AdamW under a cosine learning rate with a linear warm-up, and what is done to the images.

    Attributes:
        name: Name of the recipe.
        lr_frozen: Peak learning rate of FROZEN-TUNING.
        lr_full: Peak learning rate of stitches and head in FULL-TUNING.
        block_lr: Share of ``lr_full`` that the pre-trained blocks learn with.
        epochs_frozen: Epochs of FROZEN-TUNING.
        epochs_full: Epochs of FULL-TUNING.
        batch_size: Images a step; an epoch is split into batches of nearly this size.
        weight_decay: Of AdamW, on weights of two or more dimensions.
        warmup: Share of the steps in which the rate rises.
        label_smoothing: Of the cross-entropy.
        augment: ``"light"`` (small shifts, turns, zooms, brightness and contrast: for few images)
            or ``"rand_augment"`` (timm's training transform with RandAugment).
        flip: Probability of a horizontal flip. 0 suits digits and letters, which a flip turns into
            something else; 0.5 suits most photographs.
        mixup: Alpha of Mixup; 0 is off.
        cutmix: Alpha of CutMix; 0 is off.
        max_grad_norm: Gradients are clipped to this norm.
        step_limit: In FROZEN-TUNING, limit on the peak rate of a weight matrix or kernel, as a
            share of the root mean square of its entries. A step of AdamW is as long as the rate,
            whatever the loss and whatever the size of the weights, so that a stitch or a head that
            starts from a fit to the target, and whose weights are small since its inputs are
            large, would be washed away. None where they start from random weights.
    """

    name: str
    lr_frozen: float
    lr_full: float
    block_lr: float
    epochs_frozen: int
    epochs_full: int
    batch_size: int
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    augment: Literal["light", "rand_augment"] = "light"
    flip: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    max_grad_norm: float = 1.0
    step_limit: float | None = 0.01

    def epochs(self, protocol: Protocol) -> int:
        """Return the epochs of a protocol."""
        return self.epochs_frozen if protocol == "frozen" else self.epochs_full

    def lr(self, protocol: Protocol) -> float:
        """Return the peak learning rate of stitches and head in a protocol."""
        return self.lr_frozen if protocol == "frozen" else self.lr_full


RECIPES: dict[str, TrainRecipe] = {
    recipe.name: recipe
    for recipe in (
        TrainRecipe(
            "few-shot",
            lr_frozen=1e-2,
            lr_full=2e-3,
            block_lr=1.0,
            epochs_frozen=15,
            epochs_full=15,
            batch_size=16,
        ),
        # DeRy section 4.2: AdamW, 1e-3, cosine, weight decay 0.05, RandAugment, Mixup, CutMix,
        # 100 epochs; the alphas are those of timm's own recipes.
        TrainRecipe(
            "timm",
            lr_frozen=1e-3,
            lr_full=1e-3,
            block_lr=1.0,
            epochs_frozen=100,
            epochs_full=100,
            batch_size=128,
            augment="rand_augment",
            flip=0.5,
            mixup=0.8,
            cutmix=1.0,
        ),
    )
}


def train_recipe(
    name: str,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
) -> TrainRecipe:
    """Return a training recipe by name, with what a run file overrules.

    Args:
        name: A key of :data:`RECIPES`.
        epochs: Epochs of each protocol.
        batch_size: Images a step.
        lr: Peak learning rate of both protocols.

    Raises:
        UserError: If there is no such recipe.
    """
    if name not in RECIPES:
        raise UserError(
            f"finetune.recipe: there is no training recipe '{name}'.{nearest(name, RECIPES)} "
            f"Allowed: {', '.join(RECIPES)}."
        )
    recipe = RECIPES[name]
    if epochs is not None:
        recipe = replace(recipe, epochs_frozen=epochs, epochs_full=epochs)
    if batch_size is not None:
        recipe = replace(recipe, batch_size=batch_size)
    if lr is not None:
        recipe = replace(recipe, lr_frozen=lr, lr_full=lr)
    return recipe
