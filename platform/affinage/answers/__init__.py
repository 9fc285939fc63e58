"""From a question to a checked answer, and the record of it.

Retrieval is the index's, generation the engine's; this room decides what is quoted, what is known, and what is said
when nothing is. Called by serving; knows nothing of HTTP, arms or experiments.
"""
