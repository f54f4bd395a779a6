from small_images import digits, pets

__all__ = ["digits", "pets"]
