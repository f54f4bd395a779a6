"""How images are brought to one size: shared by loading, preprocessing and the passes."""

from __future__ import annotations

from dataclasses import dataclass

from zoo_search.core.errors import UserError, require

Size = tuple[int, int]
"""Height and width in pixels."""

_LARGEST = 8192  # pixels of the shorter side; a strip may be 16 times as long before the crop
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class View:
    """Resize the shorter side to ``size / crop_pct``, then crop the centre to ``size``.

    Models of equal views share their decoded images: a view is a key of dictionaries.

    Attributes:
        size: Height and width in pixels.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic`` (with antialiasing).
        crop_pct: Share of the resized image that the centre crop keeps, a side.

    Raises:
        UserError: If there is no such interpolation, or size and share make no sense.
    """

    size: Size
    interpolation: str = "bicubic"
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        missing = f"There is no interpolation '{self.interpolation}'."
        require(self.interpolation, INTERPOLATIONS, missing)
        makes_sense = min(self.size) >= 1 and 0 < self.crop_pct <= 1
        if not makes_sense or max(self.size) / self.crop_pct > _LARGEST:
            raise UserError(
                f"Images cannot be brought to size {self.size} with crop_pct {self.crop_pct}: "
                "height and width must be at least 1, crop_pct above 0 and at most 1, and size / "
                f"crop_pct at most {_LARGEST}."
            )

    @property
    def nbytes(self) -> int:
        """Bytes of one decoded image, uint8 ``[3, H, W]``."""
        return 3 * self.size[0] * self.size[1]


def as_view(view: View | Size, interpolation: str = "bicubic", crop_pct: float = 1.0) -> View:
    """Return a view as it is, or make one from height and width and what is said beside them."""
    return view if isinstance(view, View) else View(view, interpolation, crop_pct)
