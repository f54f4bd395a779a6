"""What can be told of a data set before anything is computed on it."""
