"""Changed winners: the same recipe over wider, deeper or larger models (DPIAT section 1.2)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from zoo_search.config import JobConfig, VariantConfig, ZooEntry
from zoo_search.core.errors import UserError
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.networks import Network
from zoo_search.hooks import Context, Piece, as_hooks, check_filled, hooks_identity, start
from zoo_search.linegraph.graph import LineGraph
from zoo_search.networks.assemble import build_network
from zoo_search.networks.recipe import BlockRef, Recipe
from zoo_search.zoo.load import build_untrained
from zoo_search.zoo.models import ZooModel


def plan_variant(
    name: str, change: VariantConfig, winner: Network, classes: int, job: JobConfig
) -> Network:
    """Build a winner, changed and with random weights.

    Raises:
        UserError: If nothing changes, or a changed model cannot be built or has no cuts at the
            strides where the recipe joins it.
    """
    place = f"finetune.variants.{name}"
    models = change_models(place, name, change, winner.models, job)
    recipe = carry_over(place, winner.entry.recipe, winner.models, models)
    own = {model.name: model for model in models.values()}
    hooks = as_hooks(job.init if change.init is None else change.init, f"{place}.init")
    return Network(
        Entry(name, "variant", recipe, models=own, init=hooks),
        build_network(recipe, own, classes, job.seed),
        own,
        (),
        [hooks_identity(hooks, "variant"), change.identity()],
        of=winner.entry.name,
    )


def fill_variant(planned: Network, winner: Network, task: str, seed: int) -> Network:
    """Let the init hooks fill a planned variant, in place; return it with their reports.

    ``winner`` has its fine-tuned weights, ``task`` is the hash of all that decided on them.

    Raises:
        UserError: If a hook fails, or none fills it and random values are not asked for.
    """
    entry, net = planned.entry, planned.net
    piece = Piece("", net, {winner.entry.name: winner.net})
    context = Context("variant", entry.name, (piece,), seed)
    net.init_reports = start(net, context, as_hooks(entry.init or ()))
    check_filled(f"finetune.variants.{entry.name}", piece, net.init_reports)
    return replace(planned, reports=net.init_reports, start=[*planned.start, task])


def change_models(
    place: str, name: str, change: VariantConfig, models: Mapping[str, ZooModel], job: JobConfig
) -> dict[str, ZooModel]:
    """Build the models of a winner's recipe anew, changed and with random weights.

    The new models, called ``MODEL@NAME``, come by the names of the old ones. ``place`` is where the
    change stands in the run file.
    """
    if change.input_size is None and not set(change.models) & set(models):
        raise UserError(
            f"{place}: '{change.of}' holds no block of {', '.join(change.models)}, so that nothing "
            f"would change. Change one of its models, {', '.join(models)}, or give an input_size."
        )
    config, changed = at_input_size(job, change), {}
    size = config.input_size
    for model in models.values():
        spec = changed_entry(model.spec, model.name, change)
        module = build_untrained(spec, model.name, config, f"{place}.models")
        transform = model.transform if size is None else replace(model.transform, size=(size, size))
        changed[model.name] = replace(
            model,
            name=f"{model.name}@{name}",
            spec=spec,
            module=module,
            transform=transform,
            weights_hash="",
            source=f"{model.name} ({model.source}), as trained in '{change.of}'",
            init=(),
        )
    return changed


def at_input_size(job: JobConfig, change: VariantConfig) -> JobConfig:
    """Return the run at the input size of a change."""
    return job.model_copy(update={"input_size": change.input_size or job.input_size})


def changed_entry(entry: ZooEntry, name: str, change: VariantConfig) -> ZooEntry:
    """Return the entry of a changed model, without weights."""
    other = change.models.get(name)
    kwargs = {**entry.kwargs, **(other.kwargs if other else {})}
    if change.input_size is not None and "img_size" in kwargs:
        kwargs["img_size"] = change.input_size
    arch = (other.arch if other else None) or entry.arch
    return entry.model_copy(update={"arch": arch, "kwargs": kwargs, "weights": None})


def carry_over(
    place: str, recipe: Recipe, old: Mapping[str, ZooModel], new: Mapping[str, ZooModel]
) -> Recipe:
    """Return the recipe over changed models: blocks begin and end at the same strides.

    Among the cuts of one stride, a cut moves to the same share of the way: the third of six
    becomes the fourth of eight. ``new`` are the changed models, by the names of the old ones.

    Raises:
        UserError: If a changed model has no cut at a stride that is needed, or a block vanishes.
    """
    blocks = []
    for block in recipe.blocks:
        before, after = old[block.model].graph, new[block.model].graph
        first, last = (_cut(place, before, after, cut) for cut in (block.start, block.stop))
        if first >= last:
            raise UserError(
                f"{place}: the block {block} has no nodes left in the changed {block.model} of "
                f"{len(after)} nodes. Change it less, or make it deeper."
            )
        blocks.append(BlockRef(new[block.model].name, first, last))
    return Recipe(tuple(blocks), recipe.head, recipe.taps)


def _cut(place: str, old: LineGraph, new: LineGraph, cut: int) -> int:
    if cut == 0 or cut == len(old):
        return 0 if cut == 0 else len(new)
    stride = _stride(old, cut)
    cuts, others = _by_stride(old)[stride], _by_stride(new)[stride]
    if not others:
        known = ", ".join(str(2**s) for s in _by_stride(new))
        raise UserError(
            f"{place}: the recipe cuts {old.name} at stride {2**stride}, and the changed model has "
            f"cuts at the strides {known} only. Choose an architecture of the same family."
        )
    share = (cuts.index(cut) + 1) / len(cuts)
    return others[max(0, math.floor(share * len(others) + 0.5) - 1)]


def _by_stride(graph: LineGraph) -> dict[int, list[int]]:
    cuts: dict[int, list[int]] = defaultdict(list)
    for cut in range(1, len(graph) + 1):
        cuts[_stride(graph, cut)].append(cut)
    return cuts


def _stride(graph: LineGraph, cut: int) -> int:
    """Return the logarithm to base 2 of how much coarser than the image the grid is, rounded."""
    return round(math.log2(graph.input_size[1] / graph.cuts[cut].grid[0]))
