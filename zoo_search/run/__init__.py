"""A whole run: the steps in order."""
