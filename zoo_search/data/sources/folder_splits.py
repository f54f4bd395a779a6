"""Which folders are the splits of a data set, and which its classes.

Both are folders, and a class may well be called ``test``. What can be only one of them is taken for
that; what may be both is refused, with both readings, and the run file can say it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import Note, UserError, some
from zoo_search.data.sources.files import FileTree
from zoo_search.data.sources.held_out import UNSURE, assign, split_of
from zoo_search.data.splits import Split

Parts = dict[Split, tuple[str, list[str]]]
"""Each split that is there: what stands before the names of its classes, and these names."""
Check = Callable[[str], bool]

_LOOKED = 8  # class folders that are looked into for splits; where there are any, each has them


def parts_of(tree: FileTree, config: DatasetConfig, is_image: Check) -> Parts:
    """Return the splits of a folder; ``train`` alone, where there are none to be held out.

    A folder is a split if it has the name of one (:data:`zoo_search.data.sources.held_out.WORDS`)
    and holds class folders, or if ``dataset.splits`` names it. Folders beside the splits, and those
    named as splits that hold images without classes, are left out, and that is said.

    Raises:
        UserError: If the folders can be read in two ways, or ``dataset.splits`` names what is not
            there.
    """
    given = config.splits
    if given is not None and not given.drawn:
        chosen = {split: name.strip("/") for split, name in given.named().items()}
        for name in chosen.values():
            if not tree.fs.isdir(tree.path(name)) or not tree.folders(name):
                raise UserError(
                    f"dataset.splits: {config.path} has no folder '{name}' with class folders in "
                    f"it. Found: {some(tree.folders(), ', ', ' and') or 'no folders'}."
                )
        return {split: (f"{name}/", tree.folders(name)) for split, name in chosen.items()}
    top = tree.folders()
    if given is not None:
        return {"train": ("", top)}
    inside = {name: tree.folders(name) for name in top if split_of(name) is not None}
    found = {name: classes for name, classes in inside.items() if classes}
    named = {split_of(name) for name in found}
    if "train" not in named:
        _check_classes(tree, config, top, found, inside, is_image)
        return {"train": ("", top)}
    splits = assign(found, None, "folders")
    others = [n for n in top if n not in found and any(is_image(f) for f, _ in tree.files(n))]
    strange = [name for name in others if split_of(name) is None]
    if len(splits) == 1 and strange:
        if splits["train"].lower() in UNSURE:
            return {"train": ("", top)}
        raise _two_readings(
            config,
            f"{splits['train']} can be the training split, and {some(strange, ', ', ' and')} would "
            "be left out",
            top,
            "move what is no part of it elsewhere",
        )
    if others:
        warnings.warn(
            f"dataset.path: {some(others, ', ', ' and')} in {config.path}: no class folders of a "
            "split, so their images are left out",
            Note,
            stacklevel=2,
        )
    return {split: (f"{name}/", found[name]) for split, name in splits.items()}


def _check_classes(
    tree: FileTree,
    config: DatasetConfig,
    top: Sequence[str],
    found: dict[str, list[str]],
    named: dict[str, list[str]],
    is_image: Check,
) -> None:
    """Raise :class:`UserError` if folders that are no splits for certain may well be meant so."""
    if top and set(top) == set(found):
        raise _two_readings(
            config,
            f"{' and '.join(found)} can be held-out splits, and a training split is missing",
            top,
            "add a folder train",
        )
    if len(top) > 1 and set(top) == set(named):
        if any(is_image(file) for name in top for file, _ in tree.files(name)):
            raise _two_readings(
                config,
                f"{' and '.join(top)} can be splits, and lack a folder for each class",
                top,
                "sort the images of each into such folders",
            )
        return
    looked = [name for name in top if name not in named][:_LOOKED]
    below = {name: tree.folders(name) for name in looked}
    all_of = {**below, **named}
    if len(all_of) == len(top) and _are_alike(list(all_of.values())):
        shown = some(below[looked[0]], ", ", " and")
        same = f"{some(top, ', ', ' and')} hold the same folders ({shown})"
        if found:
            cure = "call the one for the training train"
            raise _two_readings(config, f"{same} and can be splits of these classes", top, cure)
        warnings.warn(
            f"dataset.path: {same}, and are taken for classes; where they are splits, name them: "
            "dataset.splits",
            Note,
            stacklevel=2,
        )
    splits = {n: [s for s in folders if split_of(s) is not None] for n, folders in below.items()}
    nested = [n for n, words in splits.items() if len({split_of(s) for s in words}) > 1]
    if not nested:
        return
    first, words = nested[0], splits[nested[0]]
    if len(top) == 1 and any(tree.folders(f"{first}/{word}") for word in words):
        raise _two_readings(
            config,
            f"{' and '.join(words)} lie in its folder {first} and can be the splits",
            top,
            f"let dataset.path end in /{first}",
        )
    raise _two_readings(
        config,
        f"{' and '.join(words)}, which lie in {some(nested, ', ', ' and')}, can be the splits of "
        "each class, and all images would be mixed",
        top,
        f"put the splits above the classes, as in {words[0]}/{first}",
    )


def _are_alike(folders: Sequence[list[str]]) -> bool:
    """Say whether two folders or more hold the same folders, of which there are several."""
    return len(folders) > 1 and len(folders[0]) > 1 and all(f == folders[0] for f in folders)


def _two_readings(
    config: DatasetConfig, first: str, classes: Sequence[str], cure: str
) -> UserError:
    return UserError(
        f"dataset.path: {config.path} can be read in two ways: {first}; or {len(classes)} "
        f"folder{'s' if len(classes) > 1 else ''} ({some(classes, ', ', ' and')}) can be the "
        f"classes. Where these are splits, {cure}, or name them: dataset.splits: {{train: NAME, "
        "test: NAME}. Where they are classes: dataset.splits: drawn."
    )
