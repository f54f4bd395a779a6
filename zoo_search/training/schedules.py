"""How a network is trained: named schedules as frozen facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from zoo_search.core.errors import require

if TYPE_CHECKING:
    from torch import nn

Protocol = Literal["frozen", "full"]
Augment = Literal["none", "light", "rand_augment"]


@dataclass(frozen=True)
class Schedule:
    """AdamW under a cosine learning rate with a linear warm-up, and what is done to the images.

    Attributes:
        lr_frozen: Peak learning rate of FROZEN-TUNING.
        lr_full: Peak learning rate of stitches and head in FULL-TUNING.
        block_lr: Share of ``lr_full`` that the pre-trained blocks learn with.
        batch_size: Images a step, of all workers together; an epoch is split into steps of nearly
            this size.
        weight_decay: Of AdamW, on weights of two or more dimensions.
        weight_decay_full: The same in FULL-TUNING; None: ``weight_decay``.
        warmup: Share of the steps in which the rate rises.
        label_smoothing: Of the cross-entropy.
        augment: ``"light"`` (small shifts, turns, zooms, brightness and contrast: for few images),
            ``"rand_augment"`` (timm's training transform with RandAugment) or ``"none"``.
        flip: Probability of a horizontal flip. 0 suits digits and letters, which a flip turns into
            something else; 0.5 suits most photographs.
        erase: Probability that a rectangle of an image is erased (with ``"rand_augment"``).
        mixup: Alpha of Mixup; 0 is off.
        cutmix: Alpha of CutMix; 0 is off.
        max_grad_norm: Gradients are clipped to this norm.
        step_limit: In FROZEN-TUNING, limit on the peak rate of a weight matrix or kernel, as a
            share of the root mean square of its entries. A step of AdamW is as long as the rate,
            whatever the loss and whatever the size of the weights, so that a stitch or a head that
            starts from a fit to the target, and whose weights are small since its inputs are
            large, would be washed away. None where they start from random weights.
        step_limit_full: The same in FULL-TUNING, of stitches, head and blocks without batch norms:
            a short ViT behind a stitch does not stand longer steps, while convolutions that batch
            norms follow learn less with shorter ones.
        renew: Before FULL-TUNING statistics of batch norms, stitches and head are made anew
            (:mod:`zoo_search.networks.renewal`); of no use to weights that fit nothing yet.
        beta2: Decay of AdamW's second moment.
        orthogonal: Weight matrices learn with Muon (:class:`zoo_search.training.muon.Muon`).
        ema: Decay of the running mean of the weights that a protocol ends with (timm's, with a
            warm-up); 0 is off.
        augment_frozen: What is done to the images in FROZEN-TUNING; None: ``augment``. With
            ``"none"`` the features of the blocks before the first stitch are computed once.
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
    augment: Augment = "light"
    flip: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    erase: float = 0.0
    max_grad_norm: float = 1.0
    step_limit: float | None = 0.01
    step_limit_full: float | None = None
    renew: bool = True
    beta2: float = 0.999
    orthogonal: bool = False
    ema: float = 0.0
    augment_frozen: Augment | None = None
    weight_decay_full: float | None = None

    def augmentation(self, protocol: Protocol) -> Augment:
        """Return what is done to the images in a protocol."""
        return self.augment_frozen or self.augment if protocol == "frozen" else self.augment

    def epochs(self, protocol: Protocol) -> int:
        """Return the epochs of a protocol."""
        return self.epochs_frozen if protocol == "frozen" else self.epochs_full

    def lr(self, protocol: Protocol) -> float:
        """Return the peak learning rate of stitches and head in a protocol."""
        return self.lr_frozen if protocol == "frozen" else self.lr_full

    def decay(self, protocol: Protocol) -> float:
        """Return the weight decay of a protocol."""
        if protocol == "full" and self.weight_decay_full is not None:
            return self.weight_decay_full
        return self.weight_decay

    def limit(self, protocol: Protocol) -> float | None:
        """Return the limit on the rates of a protocol, as a share of the size of a weight."""
        return self.step_limit if protocol == "frozen" else self.step_limit_full

    def identity(self) -> dict[str, object]:
        """Return what decides on a training, JSON-like."""
        return dict(vars(self))


# DeRy section 4: AdamW, 1e-3, cosine, batch 1,024, weight decay 0.05, RandAugment, Mixup, CutMix;
# SHORT-TRAINING has 100 epochs, FULL-TRAINING 300. The alphas are timm's own.
_DERY = Schedule(
    "dery-short",
    lr_frozen=1e-3,
    lr_full=1e-3,
    block_lr=1.0,
    epochs_frozen=100,
    epochs_full=100,
    batch_size=1024,
    augment="rand_augment",
    flip=0.5,
    mixup=0.8,
    cutmix=1.0,
)
SCHEDULES: dict[str, Schedule] = {
    made.name: made
    for made in (
        Schedule(
            "few-shot",
            lr_frozen=1e-2,
            lr_full=2e-3,
            block_lr=1.0,
            epochs_frozen=15,
            epochs_full=15,
            batch_size=16,
            step_limit_full=0.01,
        ),
        _DERY,
        replace(_DERY, name="dery-full", epochs_frozen=300, epochs_full=300),
        replace(_DERY, name="timm", batch_size=128),  # the first name, for smaller machines
    )
}


def get_schedule(
    name: str,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    **values: object,
) -> Schedule:
    """Return one of :data:`SCHEDULES`, with what a run file overrules.

    ``epochs`` and ``lr`` count for both protocols; ``values`` are fields of :class:`Schedule`, and
    None stands for what the schedule says.

    Raises:
        UserError: If there is no such schedule.
    """
    require(name, SCHEDULES, f"finetune.schedule: there is no training schedule '{name}'.")
    told: dict[str, object] = {
        "epochs_frozen": epochs,
        "epochs_full": epochs,
        "batch_size": batch_size,
        "lr_frozen": lr,
        "lr_full": lr,
    }
    told |= {field: value for field, value in values.items() if value is not None}
    return replace(SCHEDULES[name], **{k: v for k, v in told.items() if v is not None})  # type: ignore[arg-type]


_SCRATCH = Schedule(
    "convolutional",
    lr_frozen=0.0,
    lr_full=6e-3,
    block_lr=1.0,
    epochs_frozen=0,
    epochs_full=3,
    batch_size=32,
    warmup=0.2,
    label_smoothing=0.05,
    augment="none",
    beta2=0.98,
)
FROM_SCRATCH: tuple[Schedule, Schedule] = (
    _SCRATCH,
    replace(_SCRATCH, name="linear", lr_full=4e-3, epochs_full=4, orthogonal=True),
)
"""For small nets on a few thousand images: convolutional ones, and mostly linear ones.

On 4,000 MNIST digits at 64 pixels a small ViT reaches 0.93 after four epochs of Muon and 0.38 after
two of AdamW, while for small convolutions Muon's own work would double the time of a step.
"""


def from_scratch(module: nn.Module) -> Schedule:
    """Return the schedule of :data:`FROM_SCRATCH` that suits a module's layers."""
    from torch import nn

    total = sum(p.numel() for p in module.parameters())
    linear = sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))
    return FROM_SCRATCH[2 * linear > total]
