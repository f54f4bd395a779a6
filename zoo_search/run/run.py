"""One run: its configuration, its directory, and what its steps share."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from zoo_search import cluster
from zoo_search.config import JobConfig, JobSource, load_job
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore

if TYPE_CHECKING:
    from zoo_search.cluster.hosts import Hosts
    from zoo_search.data import VisionDataset
    from zoo_search.partitions.result import Partition
    from zoo_search.similarities.given import GivenTable
    from zoo_search.similarities.table import SimilarityTable
    from zoo_search.zoo import Zoo

_HOURS = "hours.json"


@dataclass
class Run:
    """One run: its configuration, its directory, and what the steps share."""

    job: JobConfig
    store: RunStore
    address: str | None = None
    """Ray cluster to join; None: ``RAY_ADDRESS``, else a local one, started when needed."""
    began: float = field(default_factory=time.monotonic)
    """On the clock of :func:`time.monotonic`."""

    @classmethod
    def open(
        cls,
        job: JobSource,
        directory: str | None = None,
        address: str | None = None,
        seed: int | None = None,
        hours: float | None = None,
    ) -> Run:
        """Open the run of a job in ``directory`` (default ``runs/<name>``)."""
        config = load_job(job)
        if seed is not None:
            config = config.model_copy(update={"seed": seed})
        if hours is not None:
            if not 0 < hours < math.inf:
                raise UserError(
                    f"--hours: {hours:g} is no time to fill. Give hours above 0, such as 2."
                )
            search = config.search.model_copy(update={"hours": hours})
            config = config.model_copy(update={"search": search})
        cluster.set_timeout(config.timeout)
        return cls(config, RunStore(directory or f"runs/{config.name}"), address)

    @property
    def joins(self) -> bool:
        """Whether an address names a cluster that is there already."""
        return (self.address or os.environ.get("RAY_ADDRESS") or "local") != "local"

    def connect(self) -> None:
        """Start or join Ray, once, when a step has work for it.

        Raises:
            UserError: If no cluster answers, or the run directory is in the memory of this process.
        """
        if self.store.url.startswith("memory://"):
            raise UserError(
                f"The run directory {self.store.url} lies in the memory of this process, where "
                "Ray's workers cannot write, and ends with it. Give a path, or a URI of object "
                "storage, with --dir."
            )
        cluster.connect(self.address)

    def connect_if_named(self) -> None:
        """Join Ray where an address is given; for a step that may be over before Ray starts."""
        if self.joins:
            self.connect()

    @cached_property
    def hosts(self) -> Hosts:
        """The processes that steps share; they start when the first one needs them."""
        from zoo_search.cluster.hosts import Hosts

        return Hosts()

    def release_hosts(self) -> None:
        """End the processes that steps share, where there are any."""
        if "hosts" in vars(self):
            self.hosts.close()

    @property
    def hours(self) -> float | None:
        """``search.hours``, or what an earlier command gave this run, if that is more.

        So a report of a run that was given two hours does not begin another, shorter race.
        """
        given, before = self.job.search.hours, self.store.kept(_HOURS)
        known = [hours for hours in (given, before) if hours is not None]
        return max(known, default=None)

    def deadline(self) -> float | None:
        """Return when the hours are over, on the clock of :func:`time.monotonic`; None: never.

        They are noted in the run directory.
        """
        hours = self.hours
        if hours is None:
            return None
        self.store.keep(_HOURS, hours)
        return self.began + 3600 * hours

    def prepare(self) -> None:
        """Check every name, table and network of the job, and pre-train the models that ask for it.

        Joins Ray where a model is to be trained.

        Raises:
            UserError: If the job names what is not there, or a network that cannot be built.
        """
        from zoo_search.finetune.preflight import check_networks, check_steps
        from zoo_search.zoo import pretrain, untrained

        check_names(self.job)
        _ = self.given_table
        check_steps(self.job.finetune)
        check_networks(self.job)
        if untrained(self.job):
            self.connect()
            pretrain(self.job)

    @cached_property
    def zoo(self) -> Zoo:
        """The zoo; :meth:`prepare` trains what it lacks."""
        from zoo_search.zoo import load_zoo

        return load_zoo(self.job)

    @cached_property
    def dataset(self) -> VisionDataset:
        """The target images."""
        from zoo_search.data import open_dataset

        return open_dataset(self.job.dataset, self.job.seed)

    @cached_property
    def similarity_dataset(self) -> VisionDataset:
        """The images that the similarity table is made on: those of the target by default.

        Raises:
            UserError: As :func:`zoo_search.data.open_dataset`.
        """
        from zoo_search.data import open_dataset

        config = self.job.similarity.dataset
        if config is None:
            return self.dataset
        try:
            return open_dataset(config, self.job.seed)
        except UserError as error:
            raise UserError(f"In the section similarity: {error}") from None

    @cached_property
    def given_table(self) -> GivenTable | None:
        """The similarity table that the zoo brings along, where the job names one.

        Raises:
            UserError: If it cannot be used, lacks a model, or is what this run has written itself.
        """
        from zoo_search.core.files import file_system
        from zoo_search.similarities.given import read_given

        place = self.job.similarity.table
        if place is None:
            return None
        if file_system(place)[1] == file_system(self.store.path("similarity.parquet"))[1]:
            raise UserError(
                f"similarity.table: {place} is the file that this run itself writes. Give the "
                "table of another run, a copy of this one, or leave 'similarity.table' out."
            )
        return read_given(place, self.job.zoo)

    @property
    def zoo_identity(self) -> dict[str, object]:
        """What the models are: specification, weights and size of each."""
        return {
            name: {
                "spec": model.spec.identity(),
                "weights": model.weights_hash,
                "transform": model.transform.to_dict(),
            }
            for name, model in self.zoo.items()
        }

    @property
    def table(self) -> SimilarityTable:
        """The similarity table, once the step ``similarity`` is made."""
        from zoo_search.similarities.table import SimilarityTable

        return SimilarityTable.load(self.store.path("similarity.parquet"))

    @property
    def partition(self) -> Partition:
        """The sets, once the step ``partition`` is made, where it is made for one K alone."""
        from zoo_search.partitions.result import Partition

        return Partition.load(self.store.path("partition.json"))

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The sets for each number of blocks, once the step ``partition`` is made."""
        from zoo_search.partitions.result import load_partitions

        return load_partitions(self.store.path("partition.json"))


def check_names(job: JobConfig) -> None:
    """Check the names of the data sets, the metric, the sampler and the proxies of a run file.

    Nothing is computed, and what is ours is not imported for it.

    Raises:
        UserError: If there is nothing of a name: tells the nearest and all that are allowed.
    """
    from zoo_search.data.sources import SOURCES
    from zoo_search.reassembly.proxies import PROXIES
    from zoo_search.reassembly.samplers import SAMPLERS
    from zoo_search.similarities.estimators.registry import METRICS

    SOURCES.check([job.dataset.name], "dataset.name")
    if job.similarity.dataset is not None:
        SOURCES.check([job.similarity.dataset.name], "similarity.dataset.name")
    METRICS.check([job.similarity.metric], "similarity.metric")
    SAMPLERS.check([job.search.sampler], "search.sampler")
    PROXIES.check(job.search.proxies, "search.proxies")
