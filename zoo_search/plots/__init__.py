"""Pictures: of similarities, sets, matchings and runs."""
