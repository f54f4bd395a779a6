"""LogME: the evidence for a linear model from frozen features to labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.networks.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.readout import check_finite, pooled_features
from zoo_search.reassembly.proxies.registry import proxy_traits

_ITERATIONS = 2000
_TOLERANCE = 1e-8  # of log(α/β); the evidence is flat there, so its own error is of second order
_RANGE = 1e12


@proxy_traits(
    "features at the last cut, pooled",
    images="all",
    meaning="How well a linear model of the frozen features explains the classes, as the log of "
    "its evidence for an image (LogME). It has no fixed scale, and may be below or above 0: only "
    "the differences between models on the same images count.",
)
def logme(net: ReassembledNet, batches: Batches) -> float:
    """Return LogME (You et al., ICML 2021, Algorithm 1) on pooled features of all images.

    The log of the maximum evidence an image, the mean over the classes that occur (one-hot labels,
    one regression each).

    Raises:
        ValueError: If the images have no labels or one class only, or the features are all zero
            or not finite.
    """
    labels = batches.labels_of()
    features = pooled_features(net, batches)
    present = torch.unique(labels)
    if len(present) < 2:
        raise ValueError("LogME needs images of two classes or more")
    targets = F.one_hot(torch.searchsorted(present, labels)).to(features.device)
    return float(log_evidence(features, targets).mean())


def log_evidence(features: Tensor, targets: Tensor) -> Tensor:
    """Return ``max over α, β of log p(y | F, α, β) / N`` for each column y of ``targets``.

    ``y = F w + noise`` with ``w ~ N(0, 1/α)`` and noise of variance ``1/β``. With the singular
    values σ of F, the ratio ``t = α/β`` is iterated to the fixed point
    ``α = γ / |m|²``, ``β = (N - γ) / |F m - y|²``, ``γ = Σ σ²/(σ² + t)``; there
    ``α |m|² + β |F m - y|² = N``, which gives β, all in float64. The ratio is kept within 1e±12 of
    the mean σ²: where the features give the labels exactly, or nothing of them, the maximum lies
    at the end of the range. F ``[N, D]`` and targets ``[N, C]``, no column all zero, give ``[C]``.

    Raises:
        ValueError: If the features are all zero or not finite.
    """
    f, y = check_finite(features.double(), "features are"), targets.double()
    n = len(f)
    u, sigma, _ = torch.linalg.svd(f, full_matrices=False)
    s2 = sigma.square()[:, None]
    scale = float(s2.mean())
    if scale <= 0:
        raise ValueError("the features are all zero")
    # With F = U Σ Vᵀ, y = U (Uᵀy) + rest: only z = Uᵀy can be explained, and each of its entries on
    # its own, so that an iteration costs O(D) and no matrix product.
    inside = u.T @ y
    outside = (y - u @ inside).square().sum(0)  # what no weights can explain
    z2 = inside.square()

    def norms(t: Tensor) -> tuple[Tensor, Tensor]:
        """``|m|²`` and ``|F m - y|²`` for the mean of the posterior, m."""
        # m = V Σ (Σ² + t)⁻¹ z, hence |m|² = Σ σ² z² / (σ² + t)²; what is left of z is its share
        # t / (σ² + t), beside all that lies outside of the span of F.
        weights = (s2 * z2 / (s2 + t).square()).sum(0)
        return weights, outside + (z2 * (t / (s2 + t)).square()).sum(0)

    t = torch.full((y.shape[1],), scale, dtype=torch.float64, device=f.device)
    for _ in range(_ITERATIONS):
        weights, residual = norms(t)
        # γ counts the weights that the data determine. At a maximum, α = γ/|m|² and
        # β = (N - γ)/|Fm - y|² (MacKay, 1992); only their ratio feeds back into m.
        gamma = (s2 / (s2 + t)).sum(0)
        free = n - len(s2) + (t / (s2 + t)).sum(0)  # N - γ without cancellation
        new = (gamma * residual / (free * weights)).clamp(scale / _RANGE, scale * _RANGE)
        moved = float((new / t).log().abs().max())
        t = new
        if moved < _TOLERANCE:
            break
    weights, residual = norms(t)
    beta = n / (t * weights + residual)
    # log N(y; 0, I/β + F Fᵀ/α) · 2 = N log(β/2π) - Σ log(1 + σ²/t) - (α|m|² + β|Fm - y|²), where
    # the last term is N at this β; the constant -1 in the brackets is that N.
    evidence: Tensor = (n * (torch.log(beta / (2 * math.pi)) - 1) - (s2 / t).log1p().sum(0)) / 2
    return evidence / n
