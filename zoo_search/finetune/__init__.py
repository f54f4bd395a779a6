"""Winners: candidates that are fine-tuned, next to the baselines that they have to beat."""
