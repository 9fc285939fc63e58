"""Which adapter is on which engine: fetch, verify, load, prove, unload."""
