"""The partition problem as a value: similarities, sizes, limits, objective (DeRy Eqs. 2-5)."""
