"""Several streams of features as one tensor, so that there is a cut where they meet the next block.

Some models carry two to four tensors from block to block: HRNet one map a resolution, NASNet the
outputs of the last two cells, TNT the pixels of every patch beside the patches. A *bundle* packs
them into one tensor behind the block and unpacks it before the next one, bit for bit (see
:mod:`zoo_search.linegraph.packing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from zoo_search.linegraph.layout import LayoutFinder
from zoo_search.linegraph.liveness import Liveness
from zoo_search.linegraph.packing import PackMaps, PackTokens, UnpackMaps, UnpackTokens
from zoo_search.linegraph.recording import Call, Operation, Recording, Ref, Value, map_leaves

_MOST = 4
_MOST_CHANNELS = 9000  # a stitch into more would outweigh the block behind it
_MAX_PREFIX = 16


@dataclass(frozen=True)
class Bundle:
    """Values that are packed into one at a position of a recording.

    Attributes:
        position: Between operation ``position - 1`` and operation ``position``.
        values: Numbers of the values.
        shape: Shape of the packed value at the recorded batch size.
        pack: Takes the list of tensors.
        unpack: Takes the packed tensor; a tuple in the order of ``values``.
    """

    position: int
    values: tuple[int, ...]
    shape: tuple[int, ...]
    pack: Callable[[Sequence[Tensor]], Tensor]
    unpack: Callable[[Tensor], tuple[Tensor, ...]]


def bundle_at(position: int, alive: Liveness, finder: LayoutFinder) -> Bundle | None:
    """Return how the values alive at ``position`` are packed; None if they do not fit together."""
    values = sorted(alive.alive(position), key=lambda value: value.index)
    if not 2 <= len(values) <= _MOST or values[0].index == 0:
        return None
    numbers = {value.index for value in values}
    for op in alive.recording.operations[position:]:
        if len(numbers.intersection(old for _, old in op.updates)) > 1:
            return None  # they share memory, and copies would not
    # Maps first; else one sequence of cells with other tokens inside each cell.
    batch = alive.recording.values[0].shape[0]
    found = _bundle_of_maps(position, values, finder) or _bundle_of_tokens(position, values, batch)
    return found if found is not None and max(found.shape[1:]) <= _MOST_CHANNELS else None


def bundled(recording: Recording, bundles: Sequence[Bundle]) -> Recording:
    """Return the recording with the operations that pack and unpack at each bundle's position.

    The bundles come in the order of their positions, all inside the recording.
    """
    return _Weaver(recording, bundles).woven()


def _bundle_of_maps(position: int, values: Sequence[Value], finder: LayoutFinder) -> Bundle | None:
    """Bundle maps, channels first."""
    cuts = [finder.cut(0, "", value.index) for value in values]
    if not all(cut is not None and cut.layout == "nchw" for cut in cuts):
        return None
    shapes = tuple((value.shape[1], value.shape[2], value.shape[3]) for value in values)
    grid = min(shape[1:] for shape in shapes)
    pack = PackMaps(grid)
    channels = sum(shape[0] * pack.factor(shape[1:]) ** 2 for shape in shapes)
    numbers = tuple(value.index for value in values)
    shape = (values[0].shape[0], channels, *grid)
    return Bundle(position, numbers, shape, pack, UnpackMaps(pack, shapes))


def _bundle_of_tokens(position: int, values: Sequence[Value], batch: int) -> Bundle | None:
    """Bundle a sequence of cells with the tokens inside each cell."""
    mains = [i for i, value in enumerate(values) if value.shape[0] == batch]
    if len(mains) != 1 or any(len(value.shape) != 3 for value in values):
        return None
    main = values[mains[0]]
    cells = {value.shape[0] // batch for value in values if value is not main}
    prefix = main.shape[1] - min(cells)
    if len(cells) != 1 or not 0 <= prefix <= _MAX_PREFIX:
        return None
    shapes = tuple((value.shape[1], value.shape[2]) for value in values)
    channels = main.shape[2] + sum(n * c for i, (n, c) in enumerate(shapes) if i != mains[0])
    pack = PackTokens(mains[0])
    numbers = tuple(value.index for value in values)
    unpack = UnpackTokens(pack, min(cells), shapes)
    return Bundle(position, numbers, (batch, main.shape[1], channels), pack, unpack)


class _Weaver:
    """Writes a recording anew with bundles in it; values and operations are counted anew."""

    def __init__(self, recording: Recording, bundles: Sequence[Bundle]) -> None:
        self._old = recording
        self._bundles = list(bundles)
        self._waiting = list(bundles)
        self._operations: list[Operation] = []
        self._packed: dict[int, int] = {}
        self._number: dict[int, int] = {}
        self._values = self._numbered()

    def woven(self) -> Recording:
        """Return the new recording."""
        root = self._call(self._old.root)
        # Both operations of a bundle before the end of forward_features lie before it; of a bundle
        # right at the end only the packing does, so that the features are the packed tensor.
        at = self._old.features_at
        if at is not None:
            before = sum(bundle.position < at for bundle in self._bundles)
            at += 2 * before + any(bundle.position == at for bundle in self._bundles)
        return Recording(self._operations, self._values, root, at)

    def _numbered(self) -> list[Value]:
        """Number all values in the order in which they come about."""
        # Each bundle adds one packed and k unpacked values, and two operations. Values made behind
        # it move up by its values, and their producers by its operations (``shift``).
        values: list[Value] = []
        waiting = list(self._bundles)
        shift = 0
        for value in self._old.values:
            while waiting and value.producer is not None:
                bundle = waiting[0]
                if value.producer < bundle.position:
                    break
                at = bundle.position + shift
                self._packed[bundle.position] = len(values)
                values.append(Value(len(values), True, at, None, bundle.shape))
                for old in bundle.values:
                    shape = self._old.values[old].shape
                    values.append(Value(len(values), True, at + 1, None, shape))
                shift += 2
                waiting.pop(0)
            self._number[value.index] = len(values)
            producer = None if value.producer is None else value.producer + shift
            values.append(replace(value, index=len(values), producer=producer))
        return values

    def _renamed(self, tree: object) -> Any:
        """Let references go to the newest copy of what they refer to."""

        def rename(leaf: object) -> object:
            return Ref(self._number[leaf.index]) if isinstance(leaf, Ref) else leaf

        return map_leaves(rename, tree)

    def _call(self, call: Call) -> Call:
        """Rewrite a module call and everything inside."""
        args, kwargs = self._renamed(call.args), self._renamed(call.kwargs)
        start = len(self._operations)
        items: list[Call | int] = []
        for item in call.items:
            first = item if isinstance(item, int) else item.start
            while self._waiting and self._waiting[0].position <= first < call.stop:
                items += self._weave(self._waiting.pop(0))
            if isinstance(item, Call):
                items.append(self._call(item))
            else:
                items.append(len(self._operations))
                self._operations.append(self._operation(self._old.operations[item]))
        output = self._renamed(call.output)
        return Call(call.path, args, kwargs, start, len(self._operations), output, items)

    def _weave(self, bundle: Bundle) -> list[Call | int]:
        """Add the two operations of a bundle and return their places."""
        position, place = bundle.position, len(self._operations)
        inputs = [Ref(self._number[old]) for old in bundle.values]
        # The packed value's number, then those of the unpacked ones: see _numbered.
        packed = Ref(self._packed[position])
        outputs = tuple(Ref(packed.index + 1 + i) for i in range(len(bundle.values)))
        before = self._old.operations[position - 1].ancestry
        after = self._old.operations[position].ancestry
        self._operations += [
            Operation(place, bundle.pack, (inputs,), {}, packed, (), before, 0, True),
            Operation(place + 1, bundle.unpack, (packed,), {}, outputs, (), after, 0, True),
        ]
        # From here on the old values are read from what was unpacked.
        self._number.update(zip(bundle.values, (ref.index for ref in outputs), strict=True))
        return [place, place + 1]

    def _operation(self, op: Operation) -> Operation:
        """Rewrite one operation."""
        updates = tuple(
            (self._number[new], self._renamed(Ref(old)).index) for new, old in op.updates
        )
        args, kwargs = self._renamed(op.args), self._renamed(op.kwargs)
        return replace(
            op,
            index=len(self._operations),
            args=args,
            kwargs=kwargs,
            output=self._renamed(op.output),
            updates=updates,
        )
