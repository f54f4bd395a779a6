"""Muon: steps along the nearest orthogonal matrix, in the precision of the weights.

Keller Jordan's optimizer (https://kellerjordan.github.io/posts/muon/) as timm and torch have it
casts to bfloat16, which a processor without a bf16 unit multiplies 30 to 200 times slower than
float32. Here nothing is cast, and matrices of equal shape go through the iteration as one batch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

# Jordan's odd polynomial a x + b x³ + c x⁵: it multiplies small values by 3.4 and keeps those from
# 0.7 to 1.2 there. Three rounds take what is above 0.02 that far, and train as well as his five.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 3


def is_matrix(parameter: Tensor) -> bool:
    """Return whether a parameter is a matrix, or a kernel that is one when flattened.

    Position embeddings and depthwise kernels (size 1 in the first two dimensions) are none.
    """
    if parameter.ndim < 2 or 1 in parameter.shape[:2]:
        return False
    return min(len(parameter), parameter[0].numel()) >= 4


def orthogonalized(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix of ``[N, m, n]`` nearer to 1; its vectors stay.

    Values above 0.02 of a matrix's Frobenius norm end between 0.68 and 1.21.
    """
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    # The Frobenius norm bounds the largest singular value, so that all start within [0, 1].
    x = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(_ROUNDS):
        # a x + b (x xᵀ) x + c (x xᵀ)² x: an odd polynomial of x acts on its singular values alone.
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    turned: Tensor = x.mT if wide is not matrices else x
    return turned


class Muon(torch.optim.AdamW):
    """Muon for the groups that say ``"orthogonal": True``, AdamW for the others.

    The parameters of an orthogonal group have one shape, for which :func:`is_matrix` holds, and
    ``momentum`` is theirs.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, momentum: float = 0.9, **options: Any
    ) -> None:
        super().__init__(groups, **options)
        self._momentum = momentum

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make one step; the gradients of orthogonal groups are gone afterwards."""
        for group in self.param_groups:
            if group.get("orthogonal"):
                self._orthogonal_step(group)
        super().step(closure)  # passes over parameters without a gradient

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        learning = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not learning:  # of parts of a block that nothing asks for
            return
        updates = []
        for parameter in learning:
            gradient, parameter.grad = parameter.grad, None
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())  # AdamW looks for it when a state is loaded
                state["momentum"] = torch.zeros_like(gradient)
            mean = state["momentum"].lerp_(gradient, 1 - self._momentum)
            # Nesterov: the mean as it would be after one more step along this gradient.
            updates.append(gradient.lerp(mean, self._momentum).flatten(1))
        turned = orthogonalized(torch.stack(updates))
        # The step then has the root mean square of one of AdamW (https://arxiv.org/abs/2502.16982).
        length = group["lr"] * 0.2 * math.sqrt(max(turned.shape[-2:]))
        for parameter, update in zip(learning, turned, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(update.reshape(parameter.shape), alpha=length)
