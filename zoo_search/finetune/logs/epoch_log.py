"""The log of one training: its values go to TensorBoard and to the services asked for."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.store import RunStore
from zoo_search.finetune.logs.events import EventFile, events_folder
from zoo_search.finetune.logs.mlflow_run import MlflowRun
from zoo_search.finetune.logs.steps import Steps
from zoo_search.finetune.logs.wandb_run import WandbRun

_log = logging.getLogger(__name__)
_EVENTS = "tensorboard"


class _Log(Protocol):
    """Where values go; names are ``<protocol>/<value>``, all methods may raise."""

    def epoch(self, step: int, values: Mapping[str, float]) -> None: ...

    def result(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self, failed: bool) -> None: ...


_Service = Callable[[RunStore, str, str, str, Mapping[str, object]], _Log]
_SERVICES: Mapping[str, _Service] = {"wandb": WandbRun, "mlflow": MlflowRun}


class EpochLog:
    """What the training of one network tells while it goes on; a context manager.

    Its steps are epochs, counted on over the protocols. A training that goes on after a kill (the
    same ``key``) goes on in the same log, where no epoch shows twice; that of another ``key`` takes
    the place of the curve that TensorBoard has of the network. Whatever fails but the lack of a
    package is told once, as a warning: a service is then left alone until the log is closed,
    TensorBoard's events are written as soon as the run directory can be written again.

    Args:
        store: The run directory.
        kinds: Services beside TensorBoard: ``wandb``, ``mlflow``.
        run: Name of the job: the group (wandb), the experiment (MLflow).
        key: Hash of the task: the id of the run (wandb), its tag ``key`` (MLflow).
        network: Name for people.
        facts: JSON-like, such as the schedule: the config (wandb), params (MLflow).

    Raises:
        UserError: If the package of a service is not installed.
    """

    def __init__(
        self,
        store: RunStore,
        kinds: Sequence[str],
        run: str,
        key: str,
        network: str,
        facts: Mapping[str, object],
    ) -> None:
        check_logs(kinds)
        folder = events_folder(network)
        self._network, self._warned = network, set[str]()
        self._steps = Steps(store, f"{folder}/steps.json", key)
        self._logs: dict[str, _Log] = {}

        def open_log(kind: str) -> None:
            if kind == _EVENTS:
                if not self._steps.known:
                    store.remove(folder)
                self._logs[kind] = EventFile(store, folder)
            else:
                self._logs[kind] = _SERVICES[kind](store, run, key, network, facts)

        for kind in (_EVENTS, *dict.fromkeys(kinds)):
            self._guard(kind, open_log, kind)

    def epoch(self, protocol: str, number: int, values: Mapping[str, float]) -> None:
        """Log what an epoch gave; ``number`` counts from 1 in its protocol."""
        step = self._steps.epoch(protocol, number)
        self._guard(_EVENTS, self._steps.save)  # before the events: no step is given twice
        self._each("epoch", step, _named(protocol, values))

    def result(self, protocol: str, values: Mapping[str, float]) -> None:
        """Log what a protocol gave at its end; what is logged already is not logged again."""
        step = self._steps.result(protocol)
        if step is not None:
            self._each("result", step, _named(protocol, values))
            self._guard(_EVENTS, self._steps.save)

    def close(self) -> None:
        """End the log; a second call does nothing."""
        self._close(failed=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(failed=kind is not None)

    def _close(self, failed: bool) -> None:
        self._each("close", failed)
        self._logs.clear()

    def _each(self, method: Literal["epoch", "result", "close"], *args: object) -> None:
        for kind, log in list(self._logs.items()):
            if not self._guard(kind, getattr(log, method), *args) and kind != _EVENTS:
                del self._logs[kind]

    def _guard(self, kind: str, call: Callable[..., object], *args: object) -> bool:
        """Say whether a call went well; a training must not end for the sake of its log."""
        try:
            call(*args)
        except Exception as error:
            if kind not in self._warned:
                self._warned.add(kind)
                _log.warning(
                    "The log of %s at %s fails, the training goes on: %s: %s.",
                    self._network,
                    kind,
                    type(error).__name__,
                    first_line(error),
                )
            return False
        return True


def check_logs(kinds: Iterable[str]) -> None:
    """Check that the packages of these services are installed; nothing is imported.

    Raises:
        UserError: If one is not.
    """
    for kind in kinds:
        spec = importlib.util.find_spec(kind)
        if spec is None or spec.origin is None:  # a mere folder of this name has no origin
            raise UserError(
                f"finetune.log: '{kind}' needs the package {kind}, which is not installed. Run: "
                f"pip install 'zoo-search[{kind}]'"
            )


def _named(protocol: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{protocol}/{name}": float(value) for name, value in values.items()}
