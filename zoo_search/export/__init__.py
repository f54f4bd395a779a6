"""Winners as folders that load without the zoo, and for other runtimes."""

from zoo_search.export.folder import load, save_folder

__all__ = ["load", "save_folder"]
