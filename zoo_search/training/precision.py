"""Whether a device computes in bfloat16, or only pretends to."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]

_ISA_WITHOUT = {
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"
}  # fmt: skip
"""Limits on oneDNN's instructions that leave bfloat16 out or convert from it only (AVX2_VNNI_2)."""


def has_bf16(device: torch.device | str) -> bool:
    """Return whether a device has a unit for bfloat16 that torch's kernels may use.

    On a CPU without one, torch computes bfloat16 all the same: one matrix product took 38 to 197
    times as long as in float32 with AVX2, and 7 times with AVX-512 alone. ``ATEN_CPU_CAPABILITY``
    and ``ONEDNN_MAX_CPU_ISA``, by which one CPU stands in for an older one, are heeded.
    """
    if torch.device(device).type != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    if limit.upper() in _ISA_WITHOUT or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision_on(
    device: torch.device | str, wanted: Precision, tell: Callable[[str], None]
) -> Precision:
    """Return ``wanted`` (``fp32`` or ``bf16``), or ``fp32`` where the device has no unit for bf16.

    ``tell`` is told so.
    """
    if wanted != "bf16" or has_bf16(device):
        return wanted
    tell(
        "precision bf16: this processor has no unit for bfloat16 and would be many times slower "
        "with it, so fp32 is taken."
    )
    return "fp32"
