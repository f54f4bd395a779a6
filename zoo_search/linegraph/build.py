"""Build the module of a segment: calls of the author's modules and the operations between them."""

from __future__ import annotations

import re
from dataclasses import replace
from operator import attrgetter

from torch import Tensor, nn

from zoo_search.linegraph.nodes import NodeProgram, NodeStep, NodeSteps, Scope
from zoo_search.linegraph.recording import Call, Recording, Ref, map_leaves, refs_in


class Builder:
    """Builds modules for stretches of a recording of ``model``, whose modules they take over."""

    def __init__(self, model: nn.Module, recording: Recording) -> None:
        self._model = model
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._saved = frozenset(model.state_dict())
        self._recording = recording

    def build(self, start: int, stop: int, source: int, result: object) -> nn.Module:
        """Build the module that takes value ``source`` through operations ``[start, stop)``.

        ``result`` refers to the output value, or is the nested output of the model.
        """
        steps = self._steps(self._recording.root, start, stop)
        steps = self._with_constants(steps, source, result)
        operations = self._recording.operations[start:stop]
        writes = any(old == source for op in operations for _, old in op.updates)
        chain = _as_chain(steps, source, result)
        if chain is None or writes:
            return self._program(steps, source, result, writes)
        modules: list[nn.Module] = [self._modules[path] for path in chain]
        if len(modules) == 1:
            return modules[0]
        return nn.Sequential(*modules) if modules else nn.Identity()

    def _steps(self, call: Call, start: int, stop: int) -> list[NodeStep]:
        """Return calls of modules that lie in ``[start, stop)``, and operations for the rest."""
        steps: list[NodeStep] = []
        at = call.start
        for item in call.items:
            if isinstance(item, int):
                at = item + 1
                if start <= item < stop:
                    steps.append(self._operation(item))
                continue
            # A call without operations (an Identity, a dropout in eval mode) lies between two of
            # them: it goes with the stretch that starts there, at the end of all with the last.
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

    def _call(self, call: Call) -> NodeStep:
        """Return the step that calls a module."""
        # Writes inside the call, followed from the newest version back to the one that went in:
        # only these have to be renamed outside, what was made inside stays inside.
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
        return NodeStep(call.path, call.args, call.kwargs, call.output, tuple(updates))

    def _operation(self, index: int) -> NodeStep:
        """Return the step that repeats one operation."""
        op = self._recording.operations[index]
        return NodeStep(op.function, op.args, op.kwargs, op.output, op.updates)

    def _with_constants(self, steps: list[NodeStep], source: int, result: object) -> list[NodeStep]:
        """Drop what needs no image, then put before the steps whatever of it they need."""
        # First forward: which values the steps have made, and which they need from elsewhere. Then
        # backward from those: every operation that they follow from. None of it depends on the
        # image (else it would be alive at the cut), so it may be computed again in this node.
        values, operations = self._recording.values, self._recording.operations
        steps = [
            s
            for s in steps
            if any(values[n].from_image for n in refs_in(s.args, s.kwargs, s.output))
        ]
        have = {source}
        needed: set[int] = set()
        for i, step in enumerate(steps):
            absent = {n for n in step.inputs if n not in have and values[n].from_image}
            if absent:  # passed to a module that makes no use of it, or it would be alive here
                steps[i] = _without(step, absent)
            needed.update(n for n in step.inputs if n not in have | absent)
            have.update(steps[i].outputs)
        needed.update(n for n in refs_in(result) if n not in have)
        wanted: set[int] = set()
        todo = list(needed)
        while todo:
            producer = values[todo.pop()].producer
            if producer is None or producer in wanted:
                continue
            wanted.add(producer)
            op = operations[producer]
            todo += op.inputs + [old for _, old in op.updates]
        return [self._operation(index) for index in sorted(wanted)] + steps

    def _program(
        self, steps: list[NodeStep], source: int, result: object, copies: bool
    ) -> NodeProgram:
        """Return a module that runs ``steps`` over the modules and parameters that they name."""
        read = refs_in([(s.args, s.kwargs) for s in steps], result)
        numbers = [*read, *(old for s in steps for _, old in s.updates)]
        named = {n: self._recording.values[n].leaf for n in numbers}
        leaves = {n: leaf for n, leaf in named.items() if leaf is not None}
        paths = sorted({s.target for s in steps if isinstance(s.target, str)})
        safe = {n: _safe(name) for n, name in leaves.items()}
        run = NodeSteps(_with_frees(steps, source, result), source, result, safe, copies)
        program = NodeProgram(run)
        # Outer modules first: what lies inside one is there already when its own turn comes.
        for path in sorted(paths, key=lambda p: p.count(".")):
            _attach(program, path, self._modules[path])
        for number, name in leaves.items():
            _attach(program, safe[number], self._tensor(name), name in self._saved)
        return program.eval()

    def _tensor(self, name: str) -> Tensor:
        """Return the parameter, buffer or constant called ``name``."""
        match = re.fullmatch(r"(.*?)(?:\[(.*)\])?", name)
        assert match is not None
        found = attrgetter(match[1])(self._model)
        if match[2] is not None:
            if isinstance(found, dict):
                found = next(v for k, v in found.items() if repr(k) == match[2])
            else:
                found = found[int(match[2])]
        if not isinstance(found, Tensor):
            raise TypeError(f"{name} is no tensor")
        return found


def _without(step: NodeStep, absent: set[int]) -> NodeStep:
    """Return the step with None for the values ``absent``."""

    def keep(leaf: object) -> object:
        return None if isinstance(leaf, Ref) and leaf.index in absent else leaf

    args, kwargs, output = (map_leaves(keep, x) for x in (step.args, step.kwargs, step.output))
    return replace(step, args=args, kwargs=kwargs, output=output)


def _as_chain(steps: list[NodeStep], source: int, result: object) -> list[str] | None:
    """Return the module paths if each step is one module applied to the last one's output."""
    at: object = Ref(source)
    paths = []
    for step in steps:
        if not isinstance(step.target, str) or step.args != (at,) or step.kwargs:
            return None
        paths.append(step.target)
        at = step.output
    return paths if at == result and isinstance(result, Ref) else None


def _with_frees(steps: list[NodeStep], source: int, result: object) -> tuple[NodeStep, ...]:
    """Note after each step the values that nothing later needs."""
    # Backward: a value that a step touches and nothing behind it needs dies with that step. The
    # input is let go of only where the first step alone needs it.
    needed = set(refs_in(result))
    freed: list[NodeStep] = []
    for step in reversed(steps):
        touched = {source, *step.inputs, *step.outputs}
        dead = touched - needed - ({source} if step is not steps[0] else set())
        freed.append(replace(step, frees=tuple(sorted(dead))))
        needed |= set(step.inputs)
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
