"""What a file may say of an architecture: a name that timm knows, and plain arguments for it.

A run file is its user's own and may name any function. A folder of weights, a header or anything
else that can come from somebody else names no code, unless its reader says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zoo_search.core.errors import UserError, nearest, some
from zoo_search.zoo.build import OPENING, is_timm

ARGUMENTS = frozenset({
    "aa_layer", "act1_layer", "act2_layer", "act_layer", "always_partition", "attn_act_layer",
    "attn_drop", "attn_drop_rate", "attn_layer", "attn_ratio", "avg_down", "base_dim", "base_width",
    "bias", "block_config", "block_layer", "block_types", "bottle_ratio", "cardinality",
    "channel_multiplier", "channels", "class_token", "conv_bias", "conv_kernel_size", "conv_layer",
    "conv_mlp", "cpe_act", "depth", "depth_mult", "depths", "dilation", "dim", "dim_head", "dims",
    "distilled", "down_kernel_size", "downsample", "downsample_norm", "drop", "drop_block_rate",
    "drop_path", "drop_path_rate", "drop_rate", "dw_act_layer", "dynamic_img_pad",
    "dynamic_img_size", "embed_dim", "embed_dims", "embed_norm_layer", "expand_ratio",
    "expansion_ratio", "fc_act_layer", "fc_norm", "final_norm", "fix_init", "fix_stem",
    "global_pool", "grid_size", "group_size", "growth_rate", "head_bias", "head_dim",
    "head_hidden_size", "head_init_bias", "head_init_scale", "head_norm", "head_norm_first",
    "heads", "hidden_dim", "hidden_size", "img_size", "in_chans", "inference_mode", "init_value",
    "init_values", "input_size", "kernel_size", "kernel_sizes", "key_dim", "layer_scale_init_value",
    "layers", "legacy", "ls_init_value", "mixer_mode", "mlp_act", "mlp_bias", "mlp_layer",
    "mlp_ratio", "mlp_ratios", "no_embed_class", "norm_eps", "norm_layer", "norm_layer_cl",
    "num_blocks", "num_classes", "num_features", "num_groups", "num_heads", "num_reg_tokens",
    "num_stages", "output_stride", "pad_type", "patch_drop_rate", "patch_norm", "patch_size",
    "patch_stride", "pool_size", "pos_drop_rate", "pos_embed", "pre_norm", "pretrained_window_size",
    "pretrained_window_sizes", "proj_bias", "proj_drop_rate", "qk_norm", "qkv_bias", "qkv_fused",
    "reduce_first", "reg_tokens", "rel_pos_type", "replace_stem_pool", "resolution",
    "rope_temperature", "rope_type", "round_limit", "scale_attn_inner", "scale_mlp", "se_layer",
    "se_ratio", "sr_ratios", "stem_chs", "stem_dim", "stem_kernel_size", "stem_norm", "stem_size",
    "stem_stride", "stem_type", "stem_width", "strict_img_size", "stride", "strides", "swiglu_mlp",
    "token_mixer", "token_mixers", "use_abs_pos_emb", "use_bias", "use_fc_norm", "use_grn",
    "use_layer_scale", "use_post_norm", "use_rel_pos", "use_rel_pos_bias", "use_rot_pos_emb",
    "use_se", "use_shared_rel_pos_bias", "weight_init", "width", "width_mult", "widths",
    "window_ratio", "window_size", "window_sizes", "zero_init_last",
})  # fmt: skip
"""Arguments of timm's architectures that say how large and of what kind layers are.

All others stay out: what opens files or the network (``checkpoint_path``, ``cache_dir``,
``pretrained``, ``pretrained_cfg`` and its like) and what makes no classifier (``features_only``),
but also what nobody has looked at yet.
"""

LARGEST, MOST_LAYERS = 1_000_000, 1000
"""Of numbers, and of those that say how many layers there are: no real network has more."""

_COUNTS = ("depth", "layers", "num_blocks", "block_config", "num_stages")
_SIDES = ("img_size", "input_size", "resolution", "grid_size")
_LONGEST = 8192  # pixels, as of what images are brought to
_WORD = re.compile(r"[A-Za-z0-9_.+-]{0,64}")  # a layer, a pooling: no path, no URI, no module:…
_ARCH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_.-]+)?")
_CURE = "If you know and trust whoever made it, say so:"
TRUST = "zs.load(FOLDER, trust=True), or --trust on the command line."


def architecture_of(
    said: Mapping[str, object], where: str, *, trust: bool
) -> tuple[str, dict[str, Any]]:
    """Return architecture and arguments as data says them, once they are known to call nothing.

    Args:
        said: ``arch``, and perhaps ``kwargs``.
        where: Whose words they are, for messages.
        trust: The reader takes any code and any argument that is named.

    Raises:
        UserError: If they would call code, or may open files: names what would be called.
    """
    arch, kwargs = said.get("arch"), said.get("kwargs", {})
    if not isinstance(arch, str) or not isinstance(kwargs, dict):
        raise UserError(
            f"{where} does not say how its network is built: 'arch' must be a text and 'kwargs' a "
            f"mapping (given: {arch!r} and {kwargs!r}). Write the file again, or copy it again if "
            "it is damaged."
        )
    if trust:
        return arch, kwargs
    if not is_timm(arch):
        raise UserError(
            f"{where} would call the function '{arch.removeprefix('module:')}' with "
            f"{kwargs or 'no arguments'} to build a network, and a file or folder never names code "
            f"that is run here. {_CURE} {TRUST}"
        )
    if not _ARCH.fullmatch(arch):
        raise UserError(
            f"{where} names the architecture '{arch}', which is no name of timm's: these have "
            "letters, digits and underscores, and perhaps a tag after a dot. A file or folder "
            "names no place that an architecture is fetched from."
        )
    strange = [name for name in kwargs if name not in ARGUMENTS]
    if strange:
        hint = nearest(strange[0], ARGUMENTS) if len(strange) == 1 else ""
        raise UserError(
            f"{where} gives '{arch}' arguments that files and folders may not give: "
            f"{some([f'{name}: {kwargs[name]!r}' for name in strange], ', ', ' and')}.{hint} Such "
            "an argument may open files or the network. Allowed are those that say how large and "
            "of what kind layers are (zoo_search.zoo.trust.ARGUMENTS)."
            + ("" if OPENING.intersection(strange) else f" {_CURE} {TRUST}")
        )
    if odd := [name for name, value in kwargs.items() if not _is_plain(value, _most(name))]:
        raise UserError(
            f"{where} gives '{arch}' a value that files and folders may not give: "
            f"{some([f'{name}: {kwargs[name]!r}' for name in odd], ', ', ' and')}. Allowed are "
            f"numbers up to {LARGEST:,} ({MOST_LAYERS:,} for layers, {_LONGEST:,} for sides of "
            "images), true, false, null, words without slashes and colons, and lists of these. "
            f"{_CURE} {TRUST}"
        )
    return arch, kwargs


def _most(name: str) -> int:
    """Return the largest number that an argument may have."""
    if name.startswith(_COUNTS):
        return MOST_LAYERS
    return _LONGEST if name in _SIDES else LARGEST


def _is_plain(value: object, most: int, depth: int = 0) -> bool:
    if isinstance(value, list | tuple):
        inside = len(value) <= most and depth < 3
        return inside and all(_is_plain(each, most, depth + 1) for each in value)
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    return value is None or (isinstance(value, bool | int | float) and abs(value) <= most)
