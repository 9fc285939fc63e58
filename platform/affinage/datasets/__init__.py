"""From feedback to immutable training rows: selection, filters, splits, snapshots, each rejection with its reason."""
