"""Networks on Ray Train: workers are shared out in lanes, each of which trains one at a time."""
