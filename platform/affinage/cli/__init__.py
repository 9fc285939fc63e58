"""The command line: one module per noun. Parse, call one operation, print, choose the exit code."""
