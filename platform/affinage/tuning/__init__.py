"""From a dataset to an adapter, and the gate it must pass. Called by flows and the command line."""
