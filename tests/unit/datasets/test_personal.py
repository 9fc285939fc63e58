from __future__ import annotations

import pytest

from affinage.datasets.personal import personal_data


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Écrivez à jean.dupont@mairie-exemple.fr svp", ["email"]),
        ("Rappelez le 01 23 45 67 89.", ["phone"]),
        ("Tél. +33 6 12 34 56 78", ["phone"]),
        ("Call +44 20 7946 0958 today", ["phone"]),
        # 2 55 08 14 168 025: 2550814168025 mod 97 = 59, key 97 - 59 = 38.
        ("NIR 2 55 08 14 168 025 38", ["nir"]),
        ("NIR 255081416802538", ["nir"]),
        # The example of ISO 13616 for France.
        ("IBAN FR14 2004 1010 0505 0001 3M02 606 merci", ["iban"]),
        ("DE89370400440532013000", ["iban"]),
    ],
)
def test_personal_data_is_found(text: str, found: list[str]) -> None:
    assert personal_data(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "Le dossier 2026-0342 du 12/03/2026 coûte 1 250,00 €.",
        "NIR 2 55 08 14 168 025 39",  # wrong key
        "FR14 2004 1010 0505 0001 3M02 607",  # wrong checksum
        "Référence AB12345678 et 0012345678901234",
        "@mairie, voir a@b",
        "",
    ],
)
def test_numbers_without_a_valid_checksum_are_not_personal(text: str) -> None:
    assert personal_data(text) == []
