"""One module for each engine: a process that brings its index up to date once. Nothing here may call home."""

import os

# CocoIndex counts its uses on a server unless it is told not to, before it is imported.
os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"
