from __future__ import annotations

from typing import Any

import pytest

from affinage.identity.rights import reader
from affinage.index.generations import serving_generations
from affinage.index.stores.exact import ExactStore
from affinage.index.stores.protocol import Rights
from tests.support.indexing import World


def test_assistant_without_sources_finds_nothing(world: World) -> None:
    assert world.searcher().search("leave", generations={}, principals=frozenset({"everyone"}), k=5) == []


@pytest.mark.parametrize("query", ["", "  \n"])
def test_empty_question_finds_nothing(world: World, query: str) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    assert world.search(query) == []


def test_k_below_one_is_a_mistake(world: World) -> None:
    with pytest.raises(ValueError, match="k must be"):
        world.search("leave", k=0)


def test_passage_names_its_document_place_and_rights(world: World) -> None:
    world.write("a/b.md", "# Leave\n\nIntro.\n\n## Annual\n\nAnnual leave is 25 days.")
    world.sync()
    passage = world.search("annual leave days")[0]
    assert (passage.document, passage.title, passage.allow) == ("handbook/a/b.md", "Leave", ("everyone",))
    assert passage.text == "Annual leave is 25 days."
    assert passage.end - passage.start == len(passage.text)


def test_ranking_equals_brute_force_for_every_reader(world: World) -> None:
    world.allow(("hr/**", ["group:hr"]), ("law/**", ["group:law"]), ("**", ["everyone"]))
    for n in range(20):
        world.write(
            f"{('hr', 'law', 'all')[n % 3]}/{n}.md", f"# Rule {n}\n\nRule {n} is about leave of worker {n} in march and pay {n * 7}."
        )
    world.sync()
    world.check_search()
    assert world.search("march") == world.search("march")


def test_what_is_hidden_changes_nothing_of_what_is_found(world: World) -> None:
    world.allow(("hr/**", ["group:hr"]), ("**", ["everyone"]))
    for n in range(12):
        world.write(f"{n}.md", f"Rule {n} about leave in march and pay {n}.")
    world.sync()
    before = [(p.chunk_id, p.score) for p in world.search("leave in march")]
    for n in range(40):
        world.write(f"hr/{n}.md", f"Secret leave in march {n}.")
    world.sync()
    assert [(p.chunk_id, p.score) for p in world.search("leave in march")] == before


def test_search_goes_on_until_it_has_k_when_the_guard_drops_rows(world: World) -> None:
    for n in range(300):
        world.write(f"{n:03}.md", f"Rule {n} about leave in march.")
    world.sync()
    # Revoked and not patched: the store still offers all of them, the nearest among them.
    world.allow(*((f"{n:03}.md", ["group:hr"]) for n in range(290)), ("**", ["everyone"]))
    found = world.search("leave in march", k=10)
    assert sorted(p.document for p in found) == [f"handbook/{n}.md" for n in range(290, 300)]


def test_row_that_a_late_writer_left_is_never_shown(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    (row,) = world.rows()
    world.store.upsert(world.generation(), [type(row)("f" * 32, row.chunk_id, row.doc_key, ("everyone",), row.tokens, row.vector)])
    assert len(world.search("annual leave", k=5)) == 1


def test_document_replaced_while_it_is_searched_is_found_in_one_version(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()

    class Slow(ExactStore):
        """Between asking the store and the ledger, the document is replaced."""

        def vector_search(self, generation, vector, *, rights: Rights, limit):  # type: ignore[no-untyped-def]
            hits = super().vector_search(generation, vector, rights=rights, limit=limit)
            if not self.__dict__.get("done"):
                self.done = True
                world.write("a.md", "Annual leave is 30 days.")
                world.sync()
            return hits

    slow = Slow()
    slow.__dict__.update(world.store.__dict__)
    world.store = slow
    # No word is shared: only the vector search, which saw the old row, can find it.
    assert [p.text for p in world.search("holidays")] == ["Annual leave is 30 days."]


def test_removed_source_is_not_served(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    with world.database.read() as connection:
        generations = serving_generations(connection, ["handbook"])
    assert generations
    from affinage.declarations.apply import apply_declarations
    from affinage.declarations.model import Declarations

    with world.database.write() as connection:
        apply_declarations(connection, Declarations(), now=world.clock(), prune=True)
    with world.database.read() as connection:
        assert serving_generations(connection, ["handbook"]) == {}
    # A variant that still names the generation finds nothing either.
    assert world.searcher().search("leave", generations=generations, principals=reader("alice").principals, k=5) == []


TWO_CHUNKS = "# Leave\n\nAnnual leave is {n} days.\n\n## Pay\n\nPay day is the {n}th."


@pytest.mark.parametrize("change", ["replaced", "opened"])
def test_document_that_changes_between_the_two_lists_is_read_whole(world: World, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    world.allow(("b.md", ["everyone"]), ("a.md", ["group:law"] if change == "opened" else ["everyone"]))
    world.write("a.md", TWO_CHUNKS.format(n=25))
    world.write("b.md", "A badge opens the door.")
    world.sync()
    asked, ask = list[int](), world.store.lexical_candidates

    def later(*arguments: Any, **named: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:  # the other list is there already
            if change == "opened":
                world.allow(("**", ["everyone"]))
            else:
                world.write("a.md", TWO_CHUNKS.format(n=26))
            world.sync()
        return ask(*arguments, **named)

    monkeypatch.setattr(world.store, "lexical_candidates", later)
    found = {p.text for p in world.search("annual") if p.document == "handbook/a.md"}
    day = 25 if change == "opened" else 26
    assert found == {f"Annual leave is {day} days.", f"Pay day is the {day}th."}
