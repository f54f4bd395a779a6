"""What users' checkpoints hold, made to fit a network: names, values, classes and channels."""
