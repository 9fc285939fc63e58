"""Answering as the gateway and the command line share it, the gateway application, the controller."""
