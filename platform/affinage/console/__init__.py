"""The browser pages: ask with sources beside the answer, and rate."""
