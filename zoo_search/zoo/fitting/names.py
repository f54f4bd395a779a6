"""Which tensors of a file are a network's: found from the network's own names.

Training code wraps networks: ``model.``, ``module.``, ``_orig_mod.`` and the user's own names stand
before those of the network, losses and averages beside them. Every place in the file (a mapping,
and a prefix of its names) that agrees with names of the network is looked at, and the one that
agrees with the most, in name and shape, is taken.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from zoo_search.core.errors import UserError, nearest, some
from zoo_search.zoo.checkpoint import States, is_counter
from zoo_search.zoo.fitting.values import same_bits

AVERAGED = "ema"
"""What a run file says for any averaged weights, instead of the place of one."""

# Where training scripts put the weights, those of the network before those of a wrapper.
_KNOWN = ("state_dict", "model_state_dict", "model", "module", "net", "params", "")
_KNOWN_PREFIXES = frozenset({"", "model.", "module.", "net.", "network.", "backbone.", "encoder."})
_AVERAGED = re.compile(r"(^|_)(ema|swa|avg|averaged?)(_|$)", re.IGNORECASE)
# Wrappers of torch stand anywhere inside names, and are nobody's own.
_INSIDE = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


@dataclass(frozen=True)
class Place:
    """Where in a file a network's tensors may lie.

    Attributes:
        path: The keys that lead to the mapping.
        prefix: Of its names, with the last dot; ``""``: none.
        fits: Tensors that agree with the network's in name and shape.
        names: Those that agree in name.
    """

    path: str
    prefix: str
    fits: int = 0
    names: int = 0

    @property
    def words(self) -> str:
        """How a run file names it."""
        return ".".join(part for part in (self.path, self.prefix.rstrip(".")) if part)

    @property
    def averaged(self) -> bool:
        """Whether its name says that it holds averaged weights."""
        return any(_AVERAGED.search(part) for part in self.words.split("."))

    @property
    def rank(self) -> tuple[bool, int, bool]:
        """The lower, the more its name says that these are the weights that are meant."""
        last = self.path.rpartition(".")[2]
        known = _KNOWN.index(last) if last in _KNOWN else len(_KNOWN)
        bare = _INSIDE.sub("", self.prefix)
        prefixes = [part + "." for part in bare.split(".") if part]
        return self.averaged, known, not _KNOWN_PREFIXES.issuperset(prefixes)


@dataclass(frozen=True)
class Chosen:
    """The tensors of the place that was chosen, by the network's names, in the file's order.

    Attributes:
        tensors: All of them, also those that the network does not have.
        place: Where they lie.
        beside: Names in the file of what lies in the same mapping, and elsewhere in it.
        notes: What is to be said of the choice.
        whole: All tensors of the mapping, without wrappers' names that stand before all.
    """

    tensors: dict[str, Tensor]
    whole: dict[str, Tensor]
    place: Place
    beside: tuple[str, ...]
    notes: tuple[str, ...]

    def own(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors without those that are no part of a network of this state."""
        alien = _alien(state, self.tensors)
        return {key: tensor for key, tensor in self.tensors.items() if key not in alien}

    def left_out(self, state: Mapping[str, Tensor]) -> list[str]:
        """Return the names in the file that are no part of a network of this state."""
        alien = _alien(state, self.tensors)
        return [*self.beside, *(self.place.prefix + key for key in self.tensors if key in alien)]


def choose(
    own: Mapping[str, Tensor],
    states: States,
    asked: str | None,
    where: str,
    words: str,
    *,
    in_order: bool = False,
) -> Chosen:
    """Return the tensors of a file that are a network's.

    Args:
        own: The network's state.
        states: The file's (:func:`~zoo_search.zoo.checkpoint.read_checkpoint`).
        asked: ``"ema"``, or the place that the run file names.
        where: The place in the run file of the weights.
        words: What to call the file.
        in_order: Tensors are matched in order: where names are not the network's, their number
            says where it lies.

    Raises:
        UserError: If several places fit alike and differ, or nothing is where ``asked`` says.
    """
    places, size = _places(own, states), sum(not is_counter(key) for key in own)
    if in_order and max((place.names for place in places), default=0) < size:
        places = _of_size(size, states)
    places = places or [Place(path, _common(tensors)) for path, tensors in states.items()]
    wanted = _asked(places, asked, where, words)
    best = max((place.fits, place.names) for place in wanted)
    tied = sorted(
        (place for place in wanted if (place.fits, place.names) == best),
        key=lambda place: (place.rank, -len(states[place.path])),
    )
    chosen = tied[0]
    found = _tensors(states, chosen)
    others = [
        place
        for place in places
        if place is not chosen and place.names and 2 * place.names > len(own)
    ]
    for other in tied[1:]:
        if best[0] and other.rank == chosen.rank and not _equal(found, _tensors(states, other)):
            raise UserError(
                f"{where}: {words} holds several sets of weights that fit: '{chosen.words}' and "
                f"'{other.words}'. Say which: {where.rpartition('.')[0]}.state: {chosen.words}"
            )
    beside = [
        key
        for key in states[chosen.path]
        if not key.startswith(tuple(p.prefix for p in (chosen, *others) if p.path == chosen.path))
    ]
    whole = _tensors(states, Place(chosen.path, _common(states[chosen.path])))
    return Chosen(found, whole, chosen, tuple(beside), tuple(_notes(chosen, others, asked)))


def _places(own: Mapping[str, Tensor], states: States) -> list[Place]:
    """Return every place that agrees with a name of the network."""
    places = []
    for path, tensors in states.items():
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for key, tensor in tensors.items():
            start = 0
            while start >= 0:  # each ending of the name that begins after a dot
                name = _INSIDE.sub("", key[start:])
                # A wrapper's name that stands first is part of the prefix, which is told.
                if name in own and not is_counter(name) and not _INSIDE.match(key[start:]):
                    count = counts[key[:start]]
                    count[0] += own[name].shape == tensor.shape
                    count[1] += 1
                start = key.find(".", start) + 1 or -1
        places += [Place(path, prefix, *count) for prefix, count in counts.items()]
    return places


def _of_size(size: int, states: States) -> list[Place]:
    """Return the places with as many tensors as the network, batch counters aside."""
    places = []
    for path, tensors in states.items():
        counts = Counter(
            key[:end]
            for key in tensors
            if not is_counter(key)
            for end in (0, *(dot.end() for dot in re.finditer(r"\.", key)))
        )
        fitting = [prefix for prefix, count in counts.items() if count == size]
        places += [
            Place(path, prefix, size)
            for prefix in fitting  # of several that hold the same tensors the longest
            if not any(other != prefix and other.startswith(prefix) for other in fitting)
        ]
    return places


def _common(names: Iterable[str]) -> str:
    """Return the wrappers' names that stand before all of these names."""
    names, prefix = list(names), ""
    while True:
        first = names[0][len(prefix) :].partition(".")[0] + "."
        known = first in _KNOWN_PREFIXES or _INSIDE.fullmatch(first)
        if not known or not all(name.startswith(prefix + first) for name in names):
            return prefix
        prefix += first


def _tensors(states: States, place: Place) -> dict[str, Tensor]:
    return {
        _INSIDE.sub("", key[len(place.prefix) :]): tensor
        for key, tensor in states[place.path].items()
        if key.startswith(place.prefix)
    }


def _asked(places: list[Place], asked: str | None, where: str, words: str) -> list[Place]:
    """Return the places that the run file leaves to choose from."""
    if asked is None:
        return places
    if asked == AVERAGED:
        wanted = [place for place in places if place.averaged]
    else:
        wanted = [p for p in places if p.words == asked or p.words.startswith(f"{asked}.")]
    if not wanted:
        most = max(place.names for place in places)
        there = list(dict.fromkeys(p.words for p in places if 2 * p.names >= most))
        named = [repr(word) for word in there if word]
        what = "no averaged weights" if asked == AVERAGED else "no weights of this network"
        raise UserError(
            f"{where.rpartition('.')[0]}.state is '{asked}', but {words} holds {what} "
            f"{'' if asked == AVERAGED else 'there'}".rstrip()
            + f".{nearest(asked, there)} "
            + (f"Found: {some(named, ', ', ' and')}." if named else "It holds one set of weights.")
            + " Name one of these, or leave 'state' out."
        )
    return wanted


def _alien(own: Mapping[str, Tensor], found: Iterable[str]) -> set[str]:
    """Return the names that are no part of the network: what they begin with is nothing of it.

    Numbers do not count: of ``layer1`` to ``layer4`` a ``layer5`` is one more, which is missed.
    """
    parts = {_part(name) for name in own}
    return {name for name in found if name not in own and _part(name) not in parts}


def _part(name: str) -> str:
    return re.sub(r"\d+", "", name.partition(".")[0])


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)


def _notes(chosen: Place, others: list[Place], asked: str | None) -> Iterable[str]:
    if chosen.averaged:
        yield f"averaged weights, '{chosen.words}'"
    elif chosen.prefix:
        yield f"under '{chosen.words}'"
    elif asked is not None:
        yield f"'{chosen.words}'"
    averaged = [other.words for other in others if other.averaged]
    if averaged and not chosen.averaged:
        yield f"not its averaged weights, '{averaged[0]}', which 'state: {AVERAGED}' takes"
    plain = [other.words for other in others if not other.averaged]
    if chosen.averaged and plain and asked is None:
        yield f"not those of '{plain[0]}', which fit less"
