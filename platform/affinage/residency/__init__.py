"""Which adapter is on which engine: fetch, verify, load, prove, unload.

`verify.py` decides from the files alone whether they may come near an engine; `load.py` brings an adapter from the
registry onto a generator; `idle.py` says which may leave the pods. Called by `serving` and `experiments`' operators
through wiring; it does not know who asks an engine for what.
"""
