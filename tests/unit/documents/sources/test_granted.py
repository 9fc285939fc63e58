from __future__ import annotations

import pytest

from affinage.documents.sources.granted import principals_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("everyone", ("everyone",)),
        ("group:hr user:dana,group:law; group:hr", ("group:hr", "group:law", "user:dana")),
        (["user:b", "user:a"], ("user:a", "user:b")),
        ('["group:with\\u00e9"]', ("group:withé",)),
        (" ", ()),
        ("[]", ()),
        (None, ()),
        (1, ()),
        ({"everyone": 1}, ()),
        ("hr", ()),
        ("everyone hr", ()),
        ("group: everyone", ()),
        (["everyone", 1], ()),
        ('["everyone"', ()),
        ('[["everyone"]]', ()),
        ('["group:a b"]', ()),
        ("[" * 100_000, ()),
    ],
)
def test_principals_are_read_and_what_is_not_understood_allows_nobody(value: object, expected: tuple[str, ...]) -> None:
    assert principals_of(value) == expected
