"""Evaluation: a model at every rung of the inference ladder, predictions out."""
