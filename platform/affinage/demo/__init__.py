"""A small administration, written for this repository: its documents, its calls, its people, and the tour of the loop."""
