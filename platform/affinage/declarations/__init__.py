"""What exists, as its owner wrote it in YAML: sources, assistants, roles.

`model.py` says what may be written and refuses the rest; `apply.py` compares it with what is stored and writes the
difference; `repository.py` reads it back. Knows nothing of documents, engines or answers.
"""
