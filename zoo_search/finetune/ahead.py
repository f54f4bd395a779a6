"""What is wrong with plain models and changed winners, found before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_search.finetune.variants import changed_entry, sized
from zoo_search.hooks import as_hooks, check_part
from zoo_search.zoo.load import blank

if TYPE_CHECKING:
    from zoo_search.config import JobConfig

__all__ = ["check_ahead"]


def check_ahead(job: JobConfig) -> None:
    """Check the run's init hooks, and what ``finetune.plain`` and ``finetune.variants`` ask for.

    Architectures are built once without weights. Which models the winner of a variant will hold is
    not known yet, so that only those whose change is spelled out are built; the rest follows when
    the winners are there.

    Raises:
        UserError: If a hook or one of its options is unknown, no hook has a part in what it would
            have to fill, or an architecture cannot be built.
    """
    common = as_hooks(job.init)
    for name, plain in job.finetune.plain.items():
        place = f"finetune.plain.{name}"
        hooks = common if plain.init is None else as_hooks(plain.init, f"{place}.init")
        if plain.weights is None:
            check_part(f"{place}.weights is null", "plain", hooks)
        blank(plain, name, job, "finetune.plain")
    for name, variant in job.finetune.variants.items():
        place = f"finetune.variants.{name}"
        hooks = common if variant.init is None else as_hooks(variant.init, f"{place}.init")
        check_part(place, "variant", hooks)
        models = {**job.zoo, **job.finetune.plain}
        for model in variant.models:
            entry = changed_entry(models[model], model, variant)
            blank(entry, model, sized(job, variant), f"{place}.models")
