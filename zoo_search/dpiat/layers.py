"""Layers: the tensors that DPIAT matches as one, with their type."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from zoo_search.core.errors import UserError

Signature = tuple[str, tuple[int, ...]]
"""Kind and shape of a layer: all that its score depends on."""

_KINDS: dict[type[nn.Module], str] = {
    nn.ConvTranspose1d: "conv_transpose1d",
    nn.ConvTranspose2d: "conv_transpose2d",
    nn.ConvTranspose3d: "conv_transpose3d",
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.Linear: "linear",
    _BatchNorm: "batch_norm",
    _InstanceNorm: "instance_norm",
    nn.LayerNorm: "layer_norm",
    nn.GroupNorm: "group_norm",
    nn.RMSNorm: "rms_norm",
    nn.Embedding: "embedding",
    nn.EmbeddingBag: "embedding",
}
_ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# The names that torchvision and timm give to the same bare parameter.
_SYNONYMS = {"class_token": "cls_token", "pos_embedding": "pos_embed"}
_GATES: dict[type[nn.Module], int] = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3}


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: the tensors that move together, under the type that they can be matched with."""

    name: str
    """Dotted name inside the model, of the module or of the bare parameter."""
    kind: str
    """Type of the layer; only layers of one kind are matched. Empty without tensors."""
    tensors: Mapping[str, torch.Tensor]
    """By role (``weight``, ``bias``, ``running_mean``, ...); the first stands for all in scores."""
    parts: int = 1
    """Number of equal projections that are stacked along dimension 0 (fused query, key and value:
    3; gates of an LSTM: 4). Each is cropped on its own."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that stands for the layer in the score."""
        return tuple(next(iter(self.tensors.values())).shape)

    @cached_property
    def signature(self) -> Signature:
        """Kind and shape."""
        return self.kind, self.shape

    @property
    def is_projection(self) -> bool:
        """Whether Algorithm 1 counts it among the convolutional and linear layers."""
        return self.kind == "linear" or self.kind.startswith("conv")


def own_layers(module: nn.Module, name: str, taken: set[int]) -> Iterator[Layer]:
    """Yield the layers made of the own tensors of a module of that dotted name.

    ``taken`` holds the ids of tensors that belong to a layer already (tied weights); it is
    extended in place.

    Raises:
        UserError: If a parameter is quantised, integer, complex or lazy.
    """
    own = {
        n: t
        for n, t in (*module._parameters.items(), *module._buffers.items())
        if isinstance(t, torch.Tensor)
    }
    for tensor_name, tensor in own.items():
        if tensor_name in module._parameters or tensor_name in _ROLES:
            _refuse_tensor(tensor, _join(name, tensor_name), tensor_name)
    free = {n: t for n, t in own.items() if id(t) not in taken and t.numel() > 0}
    taken.update(id(t) for t in free.values())
    kind = _kind(module, own)
    if kind:
        typed = {role: free.pop(role) for role in _ROLES if role in free}
        if any(t.dim() > 0 for t in typed.values()):
            parts = 3 if name.rpartition(".")[2] == "qkv" and kind != "embedding" else 1
            yield Layer(name, kind, typed, _whole(parts, typed))
    if isinstance(module, nn.MultiheadAttention):
        yield from _attention(name, free)
    gates = next((n for cell, n in _GATES.items() if isinstance(module, cell)), 1)
    for tensor_name, tensor in free.items():
        if tensor_name in module._parameters:
            kind = _bare_kind(module, name, tensor_name)
            tensors = {"weight": tensor}
            yield Layer(_join(name, tensor_name), kind, tensors, _whole(gates, tensors))


def refuse_unsupported(module: nn.Module, name: str) -> None:
    """Raise a UserError for modules that keep their weights where nothing can be copied."""
    place = name or "The model"
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(
            f"{place} is a TorchScript module. DPIAT reads the structure of Python modules "
            "only: pass the model as it was before torch.jit.script or torch.jit.trace."
        )
    if ".quantized" in type(module).__module__:
        raise UserError(
            f"{place} is a quantised {type(module).__name__}. DPIAT copies floating point "
            "weights only: pass the model as it was before quantisation."
        )


def _kind(module: nn.Module, own: Mapping[str, torch.Tensor]) -> str:
    """The type of a module with weights of its own, or empty: then its parameters stand bare."""
    for owner, kind in _KINDS.items():
        # Parametrised and weight-normalised modules keep the true weights under other names.
        if isinstance(module, owner) and ("weight" in own or "running_mean" in own):
            return kind
    if {"weight", "running_mean", "running_var"} <= own.keys():
        return "batch_norm"  # frozen batch norms, whose affine weights are buffers
    if "weight" in own and re.search("rmsnorm", type(module).__name__, re.IGNORECASE):
        return "rms_norm"
    return ""


def _attention(name: str, free: dict[str, torch.Tensor]) -> Iterator[Layer]:
    """The projections of ``nn.MultiheadAttention``, as linear layers."""
    if "in_proj_weight" in free:
        tensors = {"weight": free.pop("in_proj_weight")}
        if "in_proj_bias" in free:
            tensors["bias"] = free.pop("in_proj_bias")
        yield Layer(_join(name, "in_proj"), "linear", tensors, 3)
    for part in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        if part in free:
            yield Layer(_join(name, part), "linear", {"weight": free.pop(part)})


def _bare_kind(module: nn.Module, name: str, tensor_name: str) -> str:
    """Bare parameters match by their own name; one that says nothing takes its owner's along."""
    if tensor_name.isdigit():
        return f"parameter {name.rpartition('.')[2]}"
    if tensor_name.startswith(("weight", "bias")):
        return f"parameter {type(module).__name__}.{tensor_name}"
    return f"parameter {_SYNONYMS.get(tensor_name, tensor_name)}"


def _whole(parts: int, tensors: Mapping[str, torch.Tensor]) -> int:
    """``parts`` if every tensor divides into that many along dimension 0, else 1."""
    return parts if all(t.dim() > 0 and t.shape[0] % parts == 0 for t in tensors.values()) else 1


def _refuse_tensor(tensor: torch.Tensor, full_name: str, tensor_name: str) -> None:
    """Raise a UserError for a tensor that no floating point weight can be copied into."""
    if is_lazy(tensor):
        raise UserError(
            f"{full_name} has no shape yet (a lazy module). Run the model once on an input of "
            "the right size before DPIAT."
        )
    if tensor_name == "num_batches_tracked":
        return
    if tensor.is_complex() or tensor.is_quantized or not tensor.is_floating_point():
        what = "quantised" if tensor.is_quantized else str(tensor.dtype).removeprefix("torch.")
        raise UserError(
            f"{full_name} is {what}. DPIAT copies real floating point weights (float64, float32, "
            "bfloat16, float16) only: convert the model, or pass it as it was before quantisation."
        )


def _join(name: str, tensor_name: str) -> str:
    return f"{name}.{tensor_name}" if name else tensor_name
