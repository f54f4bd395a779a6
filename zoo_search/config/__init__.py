"""The YAML of a run as one validated model (``docs/design.md``, "A run file")."""

from zoo_search.config.entries import (
    HOOK_ROLES,
    HookConfig,
    HookRole,
    Hooks,
    PlainEntry,
    VariantConfig,
    ZooEntry,
)
from zoo_search.config.finetuning import FinetuneConfig
from zoo_search.config.read import JobSource, load_job, read_job
from zoo_search.config.sections import (
    BudgetConfig,
    DatasetConfig,
    JobConfig,
    PartitionConfig,
    SearchConfig,
    SimilarityConfig,
    SplitsConfig,
)

__all__ = [
    "HOOK_ROLES",
    "BudgetConfig",
    "DatasetConfig",
    "FinetuneConfig",
    "HookConfig",
    "HookRole",
    "Hooks",
    "JobConfig",
    "JobSource",
    "PartitionConfig",
    "PlainEntry",
    "SearchConfig",
    "SimilarityConfig",
    "SplitsConfig",
    "VariantConfig",
    "ZooEntry",
    "load_job",
    "read_job",
]
