"""What came from what, in both directions.

`explain.py` goes from an answer back to the variant, its training rows and the judgements behind them; `forget.py` goes
from a user forward to everything that was learnt from them, and removes it; `export.py` gives a user their data. Called
by the gateway and the command line.
"""
