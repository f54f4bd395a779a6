"""Proxies from one backward pass (Abdelfattah et al., "Zero-Cost Proxies", ICLR 2021).

All are taken in eval mode, over every floating-point parameter whether it is frozen or not, and
leave no gradients behind. They raise a ``ValueError`` if the images have no labels, or the head has
too few classes for them.

**The head is random.** They take the loss of the network as it is, and a candidate of a search has
fitted stitches, but its head is new, of seeded random values (only winners get a fitted one). So
they say how the blocks take to the labels through a random readout, and not how far the network is
from solving the target. That is nearest to their authors, whose networks are random throughout, and
to DeRy's own code, which gives every candidate a new head. ``probe`` and ``logme`` fit a readout of
their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.networks.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.registry import proxy_traits

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@proxy_traits(
    "all parameters",
    meaning="How strongly a first step of training would pull at the weights: the sum of the norms "
    "of their gradients, through a random head. It has no fixed scale, and grows with the network.",
)
def grad_norm(net: ReassembledNet, batches: Batches) -> float:
    """Return the sum over parameters of the Euclidean norm of the gradient of the cross-entropy.

    The norm is that of a whole parameter tensor; the loss is the mean over the images of a batch.
    The mean over the batches.
    """
    return _per_parameter(net, batches, lambda _, grad: float(grad.norm()))


@proxy_traits(
    "all parameters",
    meaning="How much the loss depends on the weights: the sum of weight times gradient, through a "
    "random head (SNIP). It has no fixed scale, and grows with the network.",
)
def snip(net: ReassembledNet, batches: Batches) -> float:
    """Return SNIP's ``Σ |θ ∂L/∂θ|`` over all parameters (Lee et al., ICLR 2019, Eq. 5).

    L is the mean cross-entropy of a batch. The mean over the batches.
    """
    return _per_parameter(net, batches, _saliency)


@proxy_traits(
    "outputs of Conv1d, Conv2d, Conv3d, Linear",
    meaning="How much the loss depends on what the layers give, through a random head (Fisher "
    "information). It has no fixed scale, and grows with the network.",
)
def fisher(net: ReassembledNet, batches: Batches) -> float:
    """Return the Fisher information of activations (Theis et al. 2018, Eq. 6), summed over layers.

    ``Σ_layers Σ_channels 1/(2B) Σ_images (Σ_positions a ∂L/∂a)²``, where ``a`` is the output of
    a layer and L the cross-entropy of the image itself. The layers are all convolutions and all
    linear layers that are modules, in blocks, stitches and head; a module that runs twice counts
    twice. A channel is axis 1 of what a convolution gives and the last axis of what a linear layer
    gives; all other axes, windows and tokens included, are positions. The mean over the batches.
    """
    total = 0.0
    for x, labels in _labelled(net, batches):
        with torch.enable_grad(), _outputs(net, len(x)) as outputs:
            loss = _loss(net, x, labels, "sum")
            grads = torch.autograd.grad(loss, outputs, allow_unused=True)
        for activation, grad in zip(outputs, grads, strict=True):
            if grad is not None:
                # a ∂L/∂a summed over positions is the slope of the loss by a factor on the channel.
                per_channel = (activation.detach() * grad).double().sum(dim=-2)
                total += float(per_channel.square().sum()) / (2 * len(x))
    return total / batches.number


def _per_parameter(
    net: ReassembledNet, batches: Batches, measure: Callable[[Tensor, Tensor], float]
) -> float:
    """Return the sum of a measure of parameter and gradient, the mean over the batches."""
    total = 0.0
    for x, labels in _labelled(net, batches):
        loss = partial(_loss, net, x, labels, "mean")
        total += sum(measure(theta, grad) for theta, grad in _gradients(net, loss))
    return total / batches.number


def _labelled(net: ReassembledNet, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images of each batch, as ``net`` takes them, with their labels."""
    for batch in batches:
        chosen = batches.indices(batch)
        labels = batches.labels_of(chosen)
        x = batches.for_net(net, chosen)
        yield x, labels.to(x.device)


def _gradients(net: nn.Module, loss: Callable[[], Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the parameters that a loss depends on, detached, each with its gradient."""
    parameters = [p for p in net.parameters() if p.is_floating_point()]
    with torch.enable_grad(), _differentiable(net):
        grads = torch.autograd.grad(loss(), parameters, allow_unused=True)
    pairs = zip(parameters, grads, strict=True)
    return [(p.detach(), grad) for p, grad in pairs if grad is not None]


def _loss(net: nn.Module, x: Tensor, labels: Tensor, reduction: str) -> Tensor:
    logits = net(x)
    if int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"the head tells {logits.shape[1]} classes apart, and the labels go up to "
            f"{int(labels.max())}"
        )
    return F.cross_entropy(logits, labels, reduction=reduction)


def _saliency(theta: Tensor, grad: Tensor) -> float:
    return float((theta * grad).double().abs().sum())


@contextmanager
def _differentiable(net: nn.Module) -> Iterator[None]:
    """Let gradients reach every parameter for a while, frozen ones too."""
    frozen = [p for p in net.parameters() if p.is_floating_point() and not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def _outputs(net: nn.Module, images: int) -> Iterator[list[Tensor]]:
    """Collect the outputs of convolutions and linear layers as ``[B, positions, channels]``.

    What follows a layer gets a copy, so that an operation in place changes nothing collected.
    """
    outputs: list[Tensor] = []

    def collect(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        last = out if isinstance(module, nn.Linear) else out.movedim(1, -1)
        flat = last.reshape(images, -1, last.shape[-1])
        outputs.append(flat)
        back = flat.reshape(last.shape)
        back = back if isinstance(module, nn.Linear) else back.movedim(-1, 1)
        return back.clone(memory_format=torch.contiguous_format)

    with ExitStack() as hooks, _differentiable(net):
        for module in net.modules():
            if isinstance(module, LAYERS):
                hooks.enter_context(module.register_forward_hook(collect))
        yield outputs
