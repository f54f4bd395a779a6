"""Reassembled networks for other runtimes: ONNX and ``torch.export``."""

from __future__ import annotations

import copy
import io
import os
from pathlib import Path

import torch
from torch import Tensor

from zoo_search.core.errors import UserError
from zoo_search.core.files import Place, file_system, is_file, is_local, joined, made_at
from zoo_search.core.store import MANIFEST, RunStore
from zoo_search.core.version import check_format
from zoo_search.export.folder import load
from zoo_search.networks.network import ReassembledNet


def export_all(
    folder: Place,
    *,
    onnx: bool = False,
    torch_export: bool = False,
    out: Place | None = None,
    trust: bool = False,
) -> list[Path | str]:
    """Export a network: ``model.onnx``, ``model.pt2`` or both; return their paths or URIs.

    Args:
        folder: Of the network, a path or an fsspec URI; likewise ``out``.
        onnx: Whether to write ``model.onnx``.
        torch_export: Whether to write ``model.pt2``.
        out: Folder for the files; by default ``exports/NUMBER`` of the run directory for a winner
            of a run, whose own folder is what the run has made and nothing else, and the network's
            own folder for any other.
        trust: Whether the folder may name code (:func:`zoo_search.load`).

    Raises:
        UserError: If nothing is asked for, the folder is none or that of a run of a later format,
            or a package is missing; without ``trust``, if the folder names code.
    """
    if not (onnx or torch_export):
        raise UserError("Nothing to export to. Give --onnx, --torch or both.")
    place = _place_for(folder) if out is None else os.fspath(out)
    net = load(folder, trust=trust)
    written: list[Path | str] = []
    for wanted, name, write in (
        (onnx, "model.onnx", export_onnx),
        (torch_export, "model.pt2", export_torch),
    ):
        if wanted:
            target = joined(place, name)
            write(net, target)
            written.append(Path(file_system(target)[1]) if is_local(target) else target)
    return written


def _place_for(folder: Place) -> str:
    place = os.fspath(folder)
    if is_local(folder):
        place = str(Path(file_system(folder)[1]).resolve())
    above, _, number = place.rstrip("/").rpartition("/")
    run, _, winners = above.rpartition("/")
    if winners == "winners" and is_file(joined(run, MANIFEST)):
        check_format(RunStore(run))
        return joined(run, "exports", number)
    return place


def export_onnx(source: ReassembledNet, path: Place) -> None:
    """Write a network as ONNX: input ``image`` (normalised ``[B, C, H, W]``), output ``logits``.

    Raises:
        UserError: If the packages of the extra ``export`` are missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX export needs the package '{error.name}', which is not installed. Install the "
            "extra: pip install 'zoo-search[export]'."
        ) from None
    net, inputs, shapes = _ready(source)
    with made_at(path) as place:
        program = torch.onnx.export(
            net,
            inputs,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(place, external_data=False)


def export_torch(source: ReassembledNet, path: Place) -> None:
    """Write a network with ``torch.export``, for any batch size, to a path ending in ``.pt2``."""
    net, inputs, shapes = _ready(source)
    program = torch.export.export(net, inputs, dynamic_shapes=shapes)
    data = io.BytesIO()  # where there is no room, torch would not say that of a file
    torch.export.save(program, data)
    with made_at(path) as place:
        place.write_bytes(data.getvalue())


def _ready(net: ReassembledNet) -> tuple[ReassembledNet, tuple[Tensor], tuple[dict[int, object]]]:
    """Return a copy in eval mode on the CPU, its arguments, and which of their sizes may vary."""
    ready = copy.deepcopy(net).cpu().eval().requires_grad_(False)
    # Two images, since a batch of one would be taken for a constant.
    return ready, (torch.zeros(2, *net.input_size),), ({0: torch.export.Dim("batch")},)
