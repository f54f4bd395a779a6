"""Build the module of a segment: calls of the author's modules and the operations between them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from zoo_search.linegraph.nodes import Program, Scope, Step
from zoo_search.linegraph.recording import Call, Recording, Ref, map_leaves, refs_in

__all__ = ["Builder", "Built"]


@dataclass(frozen=True)
class Built:
    """The module of a segment and the parameters that it holds, by identity."""

    module: nn.Module
    parameters: tuple[nn.Parameter, ...]


class Builder:
    """Builds modules for stretches of a recording from the parts of ``model``.

    Args:
        model: The model whose modules the nodes take over (not copied again).
        recording: A recording of that model.
    """

    def __init__(self, model: nn.Module, recording: Recording) -> None:
        self._model = model
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._saved = frozenset(model.state_dict())
        self._recording = recording

    def build(self, start: int, stop: int, source: int, result: Any) -> Built:
        """Build the module that takes value ``source`` through operations ``[start, stop)``.

        Args:
            start: First operation.
            stop: First operation after it.
            source: Value number of the input.
            result: Reference to the output value, or the nested output of the model.
        """
        steps = self._steps(self._recording.root, start, stop)
        steps = self._with_constants(steps, source, result)
        chain = _as_chain(steps, source, result)
        if chain is not None and not self._writes_into(source, start, stop):
            modules = [self._modules[path] for path in chain]
            if len(modules) == 1:
                module = modules[0]
            else:
                module = nn.Sequential(*modules) if modules else nn.Identity()
        else:
            module = self._program(steps, source, result, self._writes_into(source, start, stop))
        return Built(module, tuple(module.parameters()))

    def _steps(self, call: Call, start: int, stop: int) -> list[Step]:
        """Return calls of modules that lie in ``[start, stop)``, and operations for the rest."""
        steps: list[Step] = []
        at = call.start
        for item in call.items:
            if isinstance(item, int):
                at = item + 1
                if start <= item < stop:
                    steps.append(self._operation(item))
                continue
            at = item.start
            empty = item.stop == item.start
            if empty:
                last = stop == len(self._recording.operations)
                inside = start <= at < stop or (last and at == stop)
                if inside and not isinstance(self._modules[item.path], nn.Identity):
                    steps.append(self._call(item))
            elif start <= item.start and item.stop <= stop:
                steps.append(self._call(item))
            elif item.start < stop and item.stop > start:
                steps.extend(self._steps(item, start, stop))
        return steps

    def _call(self, call: Call) -> Step:
        """Return the step that calls a module."""
        defined = {
            new: old
            for operation in self._recording.operations[call.start : call.stop]
            for new, old in operation.updates
        }
        before = set(refs_in(call.args, call.kwargs))
        updates = []
        for new in defined:
            old = new
            while old in defined:
                old = defined[old]
            if old in before:
                updates.append((new, old))
        return Step(call.path, call.args, call.kwargs, call.output, tuple(updates))

    def _operation(self, index: int) -> Step:
        """Return the step that repeats one operation."""
        op = self._recording.operations[index]
        return Step(op.function, op.args, op.kwargs, op.output, op.updates)

    def _with_constants(self, steps: list[Step], source: int, result: Any) -> list[Step]:
        """Drop what needs no image, then put before the steps whatever of it they need."""
        values, operations = self._recording.values, self._recording.operations
        steps = [s for s in steps if _depends(s, values)]
        have = {source}
        needed: set[int] = set()
        for i, step in enumerate(steps):
            inputs = refs_in(step.args, step.kwargs) + [old for _, old in step.updates]
            absent = {n for n in inputs if n not in have and values[n].from_image}
            if absent:  # passed to a module that makes no use of it, or it would be alive here
                steps[i] = _without(step, absent)
            needed.update(n for n in inputs if n not in have | absent)
            have.update(refs_in(steps[i].output), (new for new, _ in step.updates))
        needed.update(n for n in refs_in(result) if n not in have)
        wanted: set[int] = set()
        todo = list(needed)
        while todo:
            producer = values[todo.pop()].producer
            if producer is None or producer in wanted:
                continue
            wanted.add(producer)
            op = operations[producer]
            todo += refs_in(op.args, op.kwargs) + [old for _, old in op.updates]
        return [self._operation(index) for index in sorted(wanted)] + steps

    def _writes_into(self, source: int, start: int, stop: int) -> bool:
        """Whether an operation in ``[start, stop)`` writes into the input."""
        operations = self._recording.operations[start:stop]
        return any(old == source for op in operations for _, old in op.updates)

    def _program(self, steps: list[Step], source: int, result: Any, copies: bool) -> Program:
        """Return a module that runs ``steps`` over the modules and parameters that they name."""
        leaves: dict[int, str] = {}
        read = refs_in([(s.args, s.kwargs) for s in steps], result)
        for number in [*read, *(old for s in steps for _, old in s.updates)]:
            leaf = self._recording.values[number].leaf
            if leaf is not None:
                leaves[number] = leaf
        paths = sorted({s.target for s in steps if isinstance(s.target, str)})
        safe = {n: _safe(name) for n, name in leaves.items()}
        program = Program(_with_frees(steps, source, result), source, result, safe, copies)
        for path in sorted(paths, key=lambda p: p.count(".")):
            _attach(program, path, self._modules[path])
        for number, name in leaves.items():
            _attach(program, safe[number], self._tensor(name), name in self._saved)
        return program.eval()

    def _tensor(self, name: str) -> Tensor:
        """Return the parameter, buffer or constant called ``name``."""
        match = re.fullmatch(r"(.*?)(?:\[(.*)\])?", name)
        assert match is not None
        found: Any = self._model
        for part in match[1].split("."):
            found = getattr(found, part)
        if match[2] is not None:
            if isinstance(found, dict):
                found = next(v for k, v in found.items() if repr(k) == match[2])
            else:
                found = found[int(match[2])]
        if not isinstance(found, Tensor):
            raise TypeError(f"{name} is no tensor")
        return found


def _without(step: Step, absent: set[int]) -> Step:
    """Return the step with None for the values ``absent``."""

    def keep(leaf: Any) -> Any:
        return None if isinstance(leaf, Ref) and leaf.index in absent else leaf

    return replace(
        step,
        args=map_leaves(keep, step.args),
        kwargs=map_leaves(keep, step.kwargs),
        output=map_leaves(keep, step.output),
    )


def _depends(step: Step, values: list[Any]) -> bool:
    """Whether a step reads or makes a value that depends on the image."""
    numbers = refs_in(step.args, step.kwargs, step.output)
    return any(values[n].from_image for n in numbers)


def _as_chain(steps: list[Step], source: int, result: Any) -> list[str] | None:
    """Return the module paths if each step is one module applied to the last one's output."""
    at: Any = Ref(source)
    paths = []
    for step in steps:
        if not isinstance(step.target, str) or step.args != (at,) or step.kwargs:
            return None
        paths.append(step.target)
        at = step.output
    return paths if at == result and isinstance(result, Ref) else None


def _with_frees(steps: list[Step], source: int, result: Any) -> tuple[Step, ...]:
    """Note after each step the values that nothing later needs."""
    needed = set(refs_in(result))
    freed: list[Step] = []
    for step in reversed(steps):
        touched = {source, *refs_in(step.args, step.kwargs, step.output)}
        touched |= {n for pair in step.updates for n in pair}
        inputs = {*refs_in(step.args, step.kwargs), *(old for _, old in step.updates)}
        dead = touched - needed - ({source} if step is not steps[0] else set())
        freed.append(replace(step, frees=tuple(sorted(dead))))
        needed |= inputs
    return tuple(reversed(freed))


def _safe(name: str) -> str:
    """Turn ``a.b['k']`` into a dotted name."""
    return re.sub(r"\[(.*)\]", lambda m: "_" + re.sub(r"\W", "_", m[1]), name)


def _attach(root: nn.Module, name: str, part: nn.Module | Tensor, saved: bool = True) -> None:
    """Put a module, parameter or buffer at a dotted name below ``root``."""
    *holders, last = name.split(".")
    for holder in holders:
        if not hasattr(root, holder):
            root.add_module(holder, Scope())
        root = getattr(root, holder)
    if hasattr(root, last):
        return
    if isinstance(part, nn.Module):
        root.add_module(last, part)
    elif isinstance(part, nn.Parameter):
        root.register_parameter(last, part)
    else:
        root.register_buffer(last, part, persistent=saved)
