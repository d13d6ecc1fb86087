"""Evaluation: answers to held-out questions, their verdicts, accuracies and intervals."""
