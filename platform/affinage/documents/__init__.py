"""From a place to blocks and chunks.

`sources/` lists and reads documents, `extraction/` turns bytes into blocks (one module a format), `chunking.py` packs
blocks into chunks, `languages.py` names a text's language. Called by `index`; knows nothing of vectors or users.
"""
