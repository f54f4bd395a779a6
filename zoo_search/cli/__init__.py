"""The command line."""

__all__ = ["main"]


def main() -> None:
    """Run the command line (:func:`zoo_search.cli.app.main`)."""
    from zoo_search.cli.app import main

    main()
