"""Images through a network: read, decoded and preprocessed as in its training, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zoo_search.core.errors import UserError, require
from zoo_search.core.progress import progress
from zoo_search.data.ahead import ahead
from zoo_search.data.loading import decode_group, quiet_pil
from zoo_search.data.sources.listing import Unreadable
from zoo_search.training.machine import channels_last, is_out_of_memory

if TYPE_CHECKING:
    from zoo_search.data.decode import Pixels
    from zoo_search.data.preprocess import Preprocess
    from zoo_search.data.sources.listing import Reader
    from zoo_search.data.view import View

Device = Literal["auto", "cpu", "cuda"]
DEVICES = ("auto", "cpu", "cuda")
_AT_ONCE = {"cpu": 32, "cuda": 128}
_THREADS = 8


@dataclass(frozen=True, eq=False)
class Looked:
    """What a network said of the images that could be decoded.

    Attributes:
        places: Positions of these among all, int64 ``[N]``, in order.
        probabilities: Of each class, float32 ``[N, C]``; rows sum to 1.
        unreadable: Names of the others, with the reason.
    """

    places: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    unreadable: dict[str, str]


def check(device: str, batch_size: int | None) -> torch.device:
    """Return the device that a word means.

    Raises:
        UserError: If there is none, or no batch of that size.
    """
    require(device, DEVICES, f"--device {device}: there is no such device.")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: give a whole number from 1 up.")
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise UserError(
            "--device cuda: torch finds no GPU on this machine. Give cpu or auto, or see what "
            "'zoo-search doctor' says."
        )
    return torch.device("cuda" if there and device != "cpu" else "cpu")


def look(
    net: nn.Module,
    transform: Preprocess,
    reader: Reader,
    ids: Sequence[str],
    device: torch.device,
    batch_size: int | None = None,
) -> Looked:
    """Return what a network says of images; while it computes, threads decode the next ones.

    Where the device has no room for a batch, it goes through the network in halves.

    Args:
        net: Logits ``[B, C]`` of normalised images.
        transform: Says how images are decoded and normalised.
        reader: Of the images.
        ids: Of those that are wanted.
        device: Where it computes.
        batch_size: Images at once; default: what suits the device.

    Raises:
        UserError: If a storage fails again and again, or a single image is too much.
    """
    size = batch_size or _AT_ONCE[device.type]
    net = net.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    place = {name: number for number, name in enumerate(ids)}
    found: list[tuple[list[int], npt.NDArray[np.float32]]] = []
    unreadable: dict[str, str] = {}
    with progress("looking at images", len(ids)) as bar:
        for names, pixels, bad in _batches(reader, ids, transform.view, size):
            if names:
                images = torch.from_numpy(pixels).to(device)
                said = _probabilities(net, transform, images)
                found.append(([place[name] for name in names], said.cpu().numpy()))
            unreadable |= bad
            bar.advance(len(names) + len(bad))
    places = np.array([n for part, _ in found for n in part], dtype=np.int64)
    said_of = [said for _, said in found]
    probabilities = np.concatenate(said_of) if said_of else np.empty((0, 0), dtype=np.float32)
    order = np.argsort(places)
    return Looked(places[order], probabilities[order], dict(sorted(unreadable.items())))


@torch.inference_mode()
def _probabilities(net: nn.Module, transform: Preprocess, images: Tensor) -> Tensor:
    """Return probabilities, float32 ``[B, C]``, of uint8 images ``[B, 3, H, W]``."""
    try:
        return net(channels_last(transform.normalize(images))).float().softmax(dim=1)  # type: ignore[no-any-return]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(images) == 1:
            raise UserError(
                "The device has no room for a single image of shape "
                f"{tuple(images.shape[1:])}. Give --device cpu, or free some of its memory."
            ) from error
    if images.device.type == "cuda":
        torch.cuda.empty_cache()
    halves = images.tensor_split(2)
    return torch.cat([_probabilities(net, transform, half) for half in halves])


def _batches(
    reader: Reader, ids: Sequence[str], view: View, size: int
) -> Iterator[tuple[list[str], Pixels, dict[str, str]]]:
    """Yield names and pixels ``[B, 3, H, W]`` of up to so many images, and what could not be read.

    They come in the order in which the reader's groups are cheap to read; some groups ahead are
    being decoded.
    """
    names: list[str] = []
    pixels: list[Pixels] = []
    bad: dict[str, str] = {}

    def batch() -> tuple[list[str], Pixels, dict[str, str]]:
        images = np.stack(pixels) if pixels else np.empty((0, 3, *view.size), dtype=np.uint8)
        return list(names), images, dict(bad)

    for name, image in _decoded(reader, ids, view):
        if isinstance(image, Unreadable):
            bad[name] = image.reason
        else:
            names.append(name)
            pixels.append(image)
        if len(names) == size:
            yield batch()
            names.clear()
            pixels.clear()
            bad.clear()
    if names or bad:
        yield batch()


def _decoded(
    reader: Reader, ids: Sequence[str], view: View
) -> Iterator[tuple[str, Pixels | Unreadable]]:
    """Yield each image, decoded on threads that are some groups ahead."""

    def work(group: list[str]) -> list[tuple[str, Pixels | Unreadable]]:
        return list(decode_group(reader, group, view))

    with quiet_pil():
        for images in ahead(work, reader.groups(ids), min(_THREADS, os.cpu_count() or 1)):
            yield from images
