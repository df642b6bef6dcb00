"""Predictions in, scores out. No model is needed from here on.

The standard score of one answer is in `medstudy.data.standard_scores`, the option that an answer names in
`medstudy.data.choices`, and the likelihood of options in `medstudy.evaluation.decode`; `metrics` has the
scores of other authors.
"""
