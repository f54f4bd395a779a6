from small_zoo import images, zoo

__all__ = ["images", "zoo"]
