"""Curves of fine-tuning, written while it goes on: TensorBoard, Weights & Biases, MLflow."""

from zoo_search.finetune.logs.epoch_log import EpochLog, check_logs

__all__ = ["EpochLog", "check_logs"]
