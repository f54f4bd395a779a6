"""NASWOT of codes, and a convolution, written out in numpy and float64."""

import numpy as np
from torch import nn


def naswot_by_hand(codes: np.ndarray) -> float:
    """``log |det K|`` with ``K[i, j] = N_A - Hamming(i, j)``, written out."""
    images, units = codes.shape
    kernel = np.empty((images, images))
    for i in range(images):
        for j in range(images):
            kernel[i, j] = units - int((codes[i] != codes[j]).sum())
    return float(np.linalg.slogdet(kernel)[1])


def conv_by_hand(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """A 3x3 convolution with padding 1: ``[B, C, H, W]`` to ``[B, K, H, W]``."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), len(weight), *x.shape[2:]))
    for i in range(3):
        for j in range(3):
            patch = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            out += np.einsum("bchw,kc->bkhw", patch, weight[:, :, i, j])
    return out + bias[:, None, None]
