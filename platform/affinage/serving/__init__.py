"""The gateway, and answering as the gateway, the command line and the demo share it.

`answering.py` joins rights, routing, retrieval, engine, checks and record into one operation; `gateway.py` puts it on
HTTP, one module for a group of routes; `writer.py` is the one thread that writes, `callers.py` and `sessions.py` say who
is calling. Decides nothing about rights, quotes or arms: those are the rooms' before it.
"""
