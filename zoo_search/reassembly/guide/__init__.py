"""A guide that learns: how well untrained recipes would do, from what others have shown so far."""
