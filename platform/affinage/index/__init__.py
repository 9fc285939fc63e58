"""What is searched: ledger, sync, generations, stores.

`sync.py` brings a source into the ledger and the store, `search.py` reads under rights, `stores/` holds the vector
stores. Called by answers, the flows and the command line; knows nothing of engines that answer.
"""
