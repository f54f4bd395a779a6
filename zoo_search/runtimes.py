"""Reassembled networks for other runtimes: ONNX and ``torch.export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo_search.errors import UserError

__all__ = ["need_onnx", "write_onnx", "write_torch"]


def need_onnx() -> None:
    """Check that what ONNX export needs is installed.

    Raises:
        UserError: If it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX export needs the package '{error.name}', which is not installed. Install the "
            "extra: pip install 'zoo-search[export]'."
        ) from None


def write_onnx(net: nn.Module, path: Path) -> None:
    """Write ``net`` (eval mode, CPU) as one ONNX file that takes any batch size."""
    program: Any = torch.onnx.export(
        net,
        (_example(net),),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    program.save(path, external_data=False)


def write_torch(net: nn.Module, path: Path) -> None:
    """Write ``net`` (eval mode, CPU) as a ``torch.export`` program that takes any batch size."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (_example(net),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def _example(net: nn.Module) -> Tensor:
    """Return an input. Two images, since a batch of one would be taken for a constant."""
    size: Any = net.input_size
    return torch.zeros(2, *size)
