"""What is wrong with the fine-tuning that a job asks for, found before anything is computed."""

from __future__ import annotations

from zoo_search.config import FinetuneConfig, JobConfig
from zoo_search.core.errors import UserError
from zoo_search.finetune.logs import check_logs
from zoo_search.finetune.variants import at_input_size, changed_entry
from zoo_search.hooks import as_hooks, check_part
from zoo_search.training.schedules import get_schedule
from zoo_search.zoo.load import build_untrained


def check_steps(config: FinetuneConfig) -> None:
    """Check that each worker has two images in each part of a step.

    Raises:
        UserError: If a step of the schedule is too small for so many workers, or so many parts.
    """
    batch = get_schedule(config.schedule.name, batch_size=config.batch_size).batch_size
    workers = config.workers[1] if isinstance(config.workers, tuple) else config.workers or 1
    if batch >= 2 * workers * config.accumulate:
        return
    shared = f"{workers} workers share" if workers > 1 else "a worker has"
    parts = f", in {config.accumulate} parts each" if config.accumulate > 1 else ""
    raise UserError(
        f"finetune: {shared} the {batch} images of a step{parts}, which leaves some with a single "
        "image or none, and batch norms have no statistics of it. workers times accumulate may be "
        f"{batch // 2} at most here: lower 'finetune.workers' or 'finetune.accumulate', or raise "
        "'finetune.batch_size'."
    )


def check_networks(job: JobConfig) -> None:
    """Check the run's init hooks, and what ``finetune.plain``, ``.variants`` and ``.log`` ask for.

    Architectures are built once without weights. Which models the winner of a variant will hold is
    not known yet, so that only those whose change is spelled out are built; the rest follows when
    the winners are there.

    Raises:
        UserError: If a hook or one of its options is unknown, no hook has a part in what it would
            have to fill, an architecture cannot be built, or the package of a log is missing.
    """
    check_logs(job.finetune.log)
    common = as_hooks(job.init)
    for name, plain in job.finetune.plain.items():
        place = f"finetune.plain.{name}"
        hooks = common if plain.init is None else as_hooks(plain.init, f"{place}.init")
        if plain.weights is None:
            check_part(f"{place}.weights is null", "plain", hooks)
        build_untrained(plain, name, job, "finetune.plain")
    for name, variant in job.finetune.variants.items():
        place = f"finetune.variants.{name}"
        hooks = common if variant.init is None else as_hooks(variant.init, f"{place}.init")
        check_part(place, "variant", hooks)
        models = {**job.zoo, **job.finetune.plain}
        for model in variant.models:
            entry = changed_entry(models[model], model, variant)
            build_untrained(entry, model, at_input_size(job, variant), f"{place}.models")
