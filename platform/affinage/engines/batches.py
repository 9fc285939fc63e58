"""Which texts go into one request, and how long to wait before the next try. Pure.

Called by embedders behind an endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
# Of our own choice; the server may ask for a longer one.


def batches(sizes: Sequence[int], *, budget: int, most: int) -> Iterator[list[int]]:
    """Positions in groups of at most `most` texts and `budget` tokens, the shortest first; a text beyond the budget is alone.

    Texts of like length stand together: a server pads a batch to its longest, so that is what counts against the budget.

    Parameters
    ----------
    sizes
        Tokens of each text.
    """
    if most < 1:
        raise ValueError(f"most is {most}; expected at least 1")
    batch: list[int] = []
    for position in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        if batch and (len(batch) >= most or sizes[position] * (len(batch) + 1) > budget):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def pause_seconds(attempt: int, *, asked: float | None, jitter: float) -> float:
    """How long to wait after the failed `attempt`, counted from 0: doubled each time, and never less than the server asked for.

    Parameters
    ----------
    asked
        What the server's `Retry-After` said, in seconds; None: nothing that is understood.
    jitter
        In [0, 1), drawn anew each time: those who failed together must not return together.
    """
    own = min(FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 30), LONGEST_PAUSE_SECONDS) * (0.5 + 0.5 * jitter)
    return own if asked is None else max(own, asked * (1.0 + 0.1 * jitter))
