"""How good something is: one metric a file, and intervals.

Pure: numbers and JSON values in, numbers out. Called by `datasets`, `answers`, `tuning` and `experiments`. It knows
nothing of models, documents or users; the caller decides what is relevant and what is a cluster.
"""
