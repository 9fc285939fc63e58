"""Who is asking, and what they may read.

`rights.py` holds the one function that decides who may read what; `access.py` turns declared rules into the set of
principals of one document; `directory.py` keeps organisations, roles and groups; `keys.py` keeps API keys;
`secrets.py` keeps the installation's own secrets; `pseudonyms.py` makes the unit of experiments. Called everywhere; knows
nothing of documents' contents.
"""
