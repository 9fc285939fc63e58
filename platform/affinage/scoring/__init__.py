"""How good something is: one metric a file, and intervals. Pure; called by datasets, tuning and experiments."""
