from small_images import digits, pets
from small_packs import split_pets

__all__ = ["digits", "pets", "split_pets"]
