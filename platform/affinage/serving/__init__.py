"""The gateway, and answering as the gateway, the command line and the demo share it; the services of the two engines.

`answering.py` joins rights, routing, retrieval, engine, checks and record into one operation; `gateway.py` puts it on
HTTP, one module for a group of routes; `writer.py` is the one thread that writes, `callers.py` and `sessions.py` say who
is calling. `generator.py` and `embedder.py` put an engine on HTTP for pods of their own, with `inference.py`, `batching.py` and
`shelf.py` (the adapters they are sent) between them. Decides nothing about rights, quotes or arms: those are the rooms' before it.
"""
