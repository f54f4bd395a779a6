"""Upper bounds on the objective of Eq. 2."""
