"""Predictions in, scores out. No model is needed from here on."""
