"""The one function that decides who may read what. Pure.

A principal is `user:alice`, `group:hr` or `everyone`. Rights come from the token alone: nothing a user writes changes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

EVERYONE = "everyone"


@dataclass(frozen=True)
class Reader:
    """An authenticated person or program, with everything that their rights follow from."""

    user: str
    principals: frozenset[str]


def reader(user: str, groups: Iterable[str] = ()) -> Reader:
    """The reader named `user` who is a member of `groups` (names without the `group:` prefix)."""
    return Reader(user=user, principals=frozenset({EVERYONE, f"user:{user}", *(f"group:{group}" for group in groups)}))


def may_read(principals: frozenset[str], allow: Collection[str]) -> bool:
    """Whether someone with `principals` may read a document that allows `allow`. Nobody, when `allow` is empty."""
    return not principals.isdisjoint(allow)


def covers(label: Collection[str], audience: Collection[str]) -> bool:
    """Whether everyone in `audience` may read what carries `label`: `everyone` is the universe."""
    return EVERYONE in label or (bool(audience) and set(audience) <= set(label))


def intersection(labels: Iterable[Collection[str]]) -> frozenset[str]:
    """The access label of something made from several documents: those who may read all of them."""
    result: frozenset[str] | None = None
    for label in labels:
        narrowed = frozenset(label)
        if EVERYONE in narrowed:
            continue
        result = narrowed if result is None else result & narrowed
    return frozenset({EVERYONE}) if result is None else result
