"""What users say of answers: rating, correction, preference, ranking, spans, regeneration.

`submission.py` says what may be said, `submit.py` stores it (append-only, idempotent, durable), `effective.py` decides
which submission counts when a user changed their mind, `listing.py`, `export.py` and `import_.py` move it in and out.
Called by the gateway, the console, the command line and datasets; knows nothing of training rows or experiments.
"""
