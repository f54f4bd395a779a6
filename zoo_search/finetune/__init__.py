"""Winners: candidates that are fine-tuned, next to the baselines that they have to beat."""

from zoo_search.finetune.recipes import RECIPES, TrainRecipe, train_recipe
from zoo_search.finetune.train import Epoch, Snapshot, TrainResult, accuracy, train

__all__ = [
    "RECIPES",
    "Epoch",
    "Snapshot",
    "TrainRecipe",
    "TrainResult",
    "accuracy",
    "train",
    "train_recipe",
]
