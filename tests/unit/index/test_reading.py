from __future__ import annotations

from affinage.identity.rights import reader
from affinage.index.generations import serving_generations
from affinage.index.reading import current_passage, document_text
from tests.support.indexing import World

ALICE, BOB = reader("alice").principals, reader("bob", ["hr"]).principals
TEXT = "# Leave\n\nAnnual leave is 25 days.\n\n- One\n- Two"


def test_passage_is_read_by_name_while_it_is_current_and_allowed(world: World) -> None:
    world.write("a.md", TEXT)
    world.sync()
    found = world.search("annual leave")[0]
    with world.database.read() as connection:
        generations = serving_generations(connection, ["handbook"])
        passage = current_passage(connection, found.chunk_id, generations=generations, principals=ALICE)
        assert passage is not None
        assert passage.text == found.text
        assert current_passage(connection, found.chunk_id, generations={}, principals=ALICE) is None
        assert current_passage(connection, "nothing", generations=generations, principals=ALICE) is None
    world.allow(("**", ["group:hr"]))
    with world.database.read() as connection:
        assert current_passage(connection, found.chunk_id, generations=generations, principals=ALICE) is None
        assert current_passage(connection, found.chunk_id, generations=generations, principals=BOB) is not None
    world.write("a.md", "Replaced.")
    world.sync()
    with world.database.read() as connection:
        assert current_passage(connection, found.chunk_id, generations=generations, principals=BOB) is None


def test_whole_text_is_read_without_the_source_and_offsets_count_in_it(world: World) -> None:
    world.write("a.md", TEXT)
    world.sync()
    found = world.search("annual leave")[0]
    (world.docs / "a.md").unlink()
    with world.database.read() as connection:
        generations = serving_generations(connection, ["handbook"])
        text = document_text(connection, world.blobs, found.doc_key, generations=generations, principals=ALICE)
    assert text is not None
    assert text.document == "handbook/a.md"
    assert text.content.text[found.start : found.end] == found.text
    assert [block.kind for block in text.content.blocks] == ["heading", "paragraph", "list_item", "list_item"]


def test_whole_text_follows_rights_and_deletion(world: World) -> None:
    world.allow(("a.md", ["group:hr"]), ("**", ["everyone"]))
    world.write("a.md", TEXT)
    world.write("b.md", "Other.")
    world.sync()
    key = world.search("annual leave", user="bob", groups=["hr"])[0].doc_key
    with world.database.read() as connection:
        generations = serving_generations(connection, ["handbook"])
        assert document_text(connection, world.blobs, key, generations=generations, principals=ALICE) is None
        assert document_text(connection, world.blobs, key, generations=generations, principals=BOB) is not None
    world.remove("a.md")
    world.sync()
    with world.database.read() as connection:
        assert document_text(connection, world.blobs, key, generations=generations, principals=BOB) is None
    world.check_caches()
