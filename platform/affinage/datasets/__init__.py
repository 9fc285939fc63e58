"""From feedback to immutable training rows: selection, filters, splits, snapshots, each rejection with its reason.

`select.py` and `examples.py` turn judged answers into candidate rows, `filters.py`, `personal.py`, `duplicates.py` and
`splits.py` decide (pure), `build.py` joins them, `snapshots.py` and `read.py` store and read the result. Called by
tuning, the console and the command line; knows nothing of trainers, models or experiments.
"""
