"""Estimators of the similarity of two sets of features."""
