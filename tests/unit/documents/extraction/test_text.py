from affinage.documents.extraction import extract


def blocks(text: str) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in extract(text.encode(), path="a.txt").blocks]


def test_empty_lines_separate_paragraphs() -> None:
    assert blocks("Un.\r\n\r\n\r\nDeux.\n") == [("paragraph", "Un."), ("paragraph", "Deux.")]


def test_hard_wrapped_lines_are_joined_and_short_lines_are_kept() -> None:
    wrapped = "Les agents déposent leur demande de congé au moins quinze\njours avant la date."
    assert blocks(wrapped) == [("paragraph", wrapped.replace("\n", " "))]
    assert blocks("Agent : bonjour\nClient : bonsoir") == [("paragraph", "Agent : bonjour\nClient : bonsoir")]


def test_bullets_are_list_items_without_their_mark() -> None:
    assert blocks("Il faut :\n- une pièce\n- deux photos\n1. signer") == [
        ("paragraph", "Il faut :"),
        ("list_item", "une pièce"),
        ("list_item", "deux photos"),
        ("list_item", "signer"),
    ]


def test_megabytes_are_read_in_one_pass() -> None:
    paragraph = b"Une phrase assez longue pour ressembler a du texte. " * 8 + b"\n\n"
    document = extract(paragraph * (10_000_000 // len(paragraph)), path="a.txt")
    assert len(document.blocks) == 10_000_000 // len(paragraph)
