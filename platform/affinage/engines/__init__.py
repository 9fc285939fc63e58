"""What turns text into vectors and messages into answers.

`protocols.py` says what an embedder and a generator promise; the other modules are implementations, each named after
what it wraps. Called by index, answers, tuning and serving. Knows nothing of documents, users or rights: it gets text.
"""
