"""The images of a fine-tuning: which a training learns from, and where they lie."""
