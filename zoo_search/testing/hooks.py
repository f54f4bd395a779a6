"""What every init hook keeps to: it starts what has no pre-trained weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.core.identity import seeded
from zoo_search.hooks import BoundHook, Context, HookReport, Init, Piece, as_hooks, start
from zoo_search.hooks.context import ROLES, HookRole
from zoo_search.hooks.registry import traits_of
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.testing.small import (
    CLASSES,
    RECIPES,
    differences,
    modes_of,
    process_state,
    small_module,
    small_zoo,
    smooth_images,
    state_of,
    travelled,
)


@dataclass(frozen=True, eq=False)
class Started:
    """A network after its hooks."""

    new: Mapping[str, Tensor]
    """The tensors without pre-trained weights, by name."""
    reports: tuple[HookReport, ...]
    touched: tuple[str, ...]
    """What was changed beside these: pre-trained tensors, modes, what may be trained."""


def start_with(
    init: Init, role: HookRole, recipe: str | Recipe = "conv into vit", seed: int = 0
) -> Started:
    """Start a small network of a role with hooks.

    ``candidate``: the recipe (or that of a name, :data:`~.small.RECIPES`), on blocks that the zoo
    shares; ``variant``: a deeper ViT from the trained one; ``zoo`` and ``plain``: a network from
    one of two others.
    """
    if role == "candidate":
        zoo = small_zoo("conv", "vit", copied=True)
        donors = [node.module for parent in zoo.values() for node in parent.graph]
        shared = nn.ModuleList([*donors, *(parent.graph.head for parent in zoo.values())])
        shared.eval()
        before = state_of(shared)
        net = assemble(
            RECIPES[recipe] if isinstance(recipe, str) else recipe,
            zoo,
            init,
            images=smooth_images(48),
            num_classes=CLASSES,
            seed=seed,
            copy_blocks=False,
        )
        new = {**net.stitches.state_dict(prefix="stitches."), **net.head.state_dict()}
        if net.recipe.head == "source":
            new = {}
        return Started(copy.deepcopy(new), net.init_reports, differences(before, state_of(shared)))
    module = small_module("vit", seed, depth=5) if role == "variant" else small_module("conv", seed)
    given = {"winner": small_module("vit", 1)}
    if role != "variant":
        given = {"near": small_module("conv", 1), "far": small_module("resnet", 1)}
    donated = nn.ModuleDict(given)
    before, modes = state_of(donated), modes_of(module)
    pieces = (Piece("", module, given),)
    reports = start(module, Context(role, "net", pieces, seed), as_hooks(init))
    touched = differences({**before, **modes}, {**state_of(donated), **modes_of(module)})
    return Started(copy.deepcopy(module.state_dict()), reports, touched)


class HookContract:
    """Derive from this, give the fixture ``init``, and run pytest."""

    fills: ClassVar[bool] = True
    """Whether it gives a network values other than the random ones it has."""
    idempotent: ClassVar[bool] = True
    """Whether a second call finds nothing left to do."""
    any_option: ClassVar[bool] = False
    """Whether it takes options that it does not know."""

    @pytest.fixture
    def init(self) -> Init:
        """The hook under test: its name, a section of a run file, or the function."""
        raise NotImplementedError("give the fixture 'init'")

    @pytest.fixture
    def hook(self, init: Init) -> BoundHook:
        """The hook with what is asked of it."""
        (hook,) = as_hooks(init)
        return hook

    @pytest.fixture(params=ROLES)
    def role(self, request: pytest.FixtureRequest, hook: BoundHook) -> HookRole:
        """A role that the hook has a part in."""
        role: HookRole = request.param
        if role not in hook.roles:
            pytest.skip("it has no part in this")
        return role

    def test_values_are_finite_and_keep_their_form(self, hook: BoundHook, role: HookRole) -> None:
        """Names, shapes and types are those of the network."""
        before, after = start_with([], role).new, start_with(hook, role).new
        forms = [{n: (t.shape, t.dtype) for n, t in new.items()} for new in (before, after)]
        assert forms[0] == forms[1]
        assert all(bool(tensor.isfinite().all()) for tensor in after.values())

    def test_it_fills_something(self, hook: BoundHook, role: HookRole) -> None:
        """Else the network stays as random as it was."""
        changed = sum(report.changed for report in start_with(hook, role).reports)
        assert (changed > 0) == self.fills

    def test_nothing_but_the_pieces_is_changed(self, hook: BoundHook, role: HookRole) -> None:
        """Other networks share the blocks and the donors; modes and what may be trained stay."""
        assert not start_with(hook, role).touched

    def test_the_same_seed_gives_the_same_values(self, hook: BoundHook, role: HookRole) -> None:
        """In another process, too: whatever was drawn before counts for nothing."""
        found = []
        for drawn in range(2):
            with seeded("a process of its own", drawn):
                found.append(start_with(hook, role, seed=3))
        assert not differences(found[0].new, found[1].new)

    def test_no_network_changes_the_start_of_another(self, hook: BoundHook, role: HookRole) -> None:
        """Candidates come in any order."""
        first = start_with(hook, role)
        for name in ("vit into conv", "conv into vit") if role == "candidate" else ("",):
            start_with(hook, role, name, seed=1)
        assert not differences(first.new, start_with(hook, role).new)

    def test_the_process_is_left_as_it_was(self, hook: BoundHook, role: HookRole) -> None:
        """Random states, gradient mode, default type."""
        start_with(hook, role)  # what is imported at a first call may draw
        with seeded("the process"):
            start_with([], role)
            without = process_state()
        with seeded("the process"):
            start_with(hook, role)
            assert not differences(without, process_state())

    def test_its_report_is_plain_and_true(self, hook: BoundHook, role: HookRole) -> None:
        """It is kept as JSON with the model, the candidate or the winner."""
        before, after = start_with([], role), start_with(hook, role)
        (report,) = after.reports
        assert (report.hook, report.role) == (hook.name, role)
        there = HookReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
        assert there == report
        assert report.values == sum(tensor.numel() for tensor in after.new.values())
        differ = [int((before.new[n] != tensor).sum()) for n, tensor in after.new.items()]
        assert report.changed == sum(differ)
        assert hook.name in str(report)

    def test_a_network_without_pieces_is_left_alone(self, hook: BoundHook, role: HookRole) -> None:
        """As a zoo model with its own head is among the candidates."""
        if role == "candidate":
            whole = Recipe((BlockRef("vit", 0, 4),), "source")
            started = start_with(hook, role, whole)
            reports, touched = started.reports, started.touched
        else:
            module = small_module("vit")
            before = state_of(module)
            reports = start(module, Context(role, "net", ()), (hook,))
            touched = differences(before, state_of(module))
        assert not touched
        assert [(report.values, report.changed) for report in reports] == [(0, 0)]

    def test_a_second_call_finds_nothing_left(self, hook: BoundHook, role: HookRole) -> None:
        """A list of hooks may name one twice, and a run that goes on may call it again."""
        if not self.idempotent:
            pytest.skip("it does not say so")
        once, twice = start_with(hook, role), start_with([hook, hook], role)
        assert twice.reports[1].changed == 0
        assert not differences(once.new, twice.new)

    def test_options_are_checked(self, hook: BoundHook) -> None:
        """A misspelt option is found when the run file is read (``hook_traits``)."""
        if self.any_option:
            pytest.skip("it takes any")
        with pytest.raises(UserError, match=r"^init\.0\.options: .*" + hook.name):
            traits_of(hook.call).check_options(hook.name, {"no_such_option": 1}, "init.0")

    def test_it_travels_to_a_worker(self, hook: BoundHook, role: HookRole) -> None:
        """By value, as Ray sends it."""
        there = start_with(travelled(hook), role)
        assert not differences(start_with(hook, role).new, there.new)
