"""Bases and variants: what is registered, what may be loaded, and which variant serves.

The database orders every move (`variants.py`, `moves.py`); MLflow holds the files and shows the aliases (`mlflow.py`);
`countersign.py` marks what passed, and engines load nothing else. Called by `tuning`, `residency`, `experiments` and
`serving`; it does not know how an adapter was trained or judged.
"""
