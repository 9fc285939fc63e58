"""Who may read what."""

from hypothesis import given
from hypothesis import strategies as st

from affinage.identity.access import AccessRule, allowed
from affinage.identity.rights import covers, intersection, may_read, reader

LABELS = st.frozensets(st.sampled_from(["everyone", "group:hr", "group:it", "user:ann", "user:bob"]))


def test_a_document_that_allows_nobody_is_read_by_nobody() -> None:
    assert not may_read(reader("ann", ["hr"]).principals, [])


def test_a_reader_has_everyone_their_name_and_their_groups() -> None:
    assert reader("ann", ["hr"]).principals == {"everyone", "user:ann", "group:hr"}


def test_a_user_named_like_a_group_gets_none_of_its_rights() -> None:
    assert not may_read(reader("group:hr").principals, ["group:hr"])


@given(st.lists(LABELS, min_size=1), LABELS)
def test_who_may_read_a_mixture_may_read_each_part(labels: list[frozenset[str]], groups: frozenset[str]) -> None:
    principals = groups | {"everyone"}
    if may_read(principals, intersection(labels)):
        assert all(may_read(principals, label) for label in labels)


def test_an_intersection_of_public_labels_is_public_and_of_strangers_is_nobody() -> None:
    assert intersection([["everyone"], ["everyone", "group:hr"]]) == {"everyone"}
    assert intersection([["group:hr"], ["group:it"]]) == set()


def test_only_a_public_label_covers_everyone() -> None:
    assert covers(["everyone"], ["group:hr"])
    assert not covers(["group:hr"], ["everyone"])
    assert not covers(["group:hr"], [])


def test_the_first_matching_rule_wins_and_no_match_is_nobody() -> None:
    rules = [AccessRule("hr/public/**", ("everyone",)), AccessRule("hr/**", ("group:hr",))]
    assert allowed(rules, "hr/public/leave.md") == ("everyone",)
    assert allowed(rules, "hr/pay.md") == ("group:hr",)
    assert allowed(rules, "it/vpn.md") == ()


def test_stars_stay_in_a_folder_and_double_stars_cross_them() -> None:
    assert allowed([AccessRule("*.md", ("everyone",))], "a/b.md") == ()
    assert allowed([AccessRule("**/*.md", ("everyone",))], "b.md") == ("everyone",)
    assert allowed([AccessRule("**/*.md", ("everyone",))], "a/c/b.md") == ("everyone",)
    assert allowed([AccessRule("a/**", ("everyone",))], "a.md") == ()
    assert allowed([AccessRule("n?te[1].md", ("everyone",))], "note[1].md") == ("everyone",)
