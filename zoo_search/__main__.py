"""``python -m zoo_search``: the command line."""

from zoo_search.cli.app import main

main()
