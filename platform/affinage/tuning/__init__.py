"""From a dataset to an adapter, and the gate it must pass.

`choice.py` says which training a dataset allows, `sft.py` and `embedding.py` train (in a process of their own, through
`worker.py`), `run.py` joins dataset, training and registry; `evaluate.py` compares control and candidate on held-out rows
and `gate.py` decides. Called by the flows, the demo and the command line. It does not know users, arms or traffic.
"""
