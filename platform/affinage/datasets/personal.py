"""Personal data in a text: e-mail, phone, French social security number, IBAN. Pure.

Numbers with a checksum count only when it holds, so that references and amounts are not taken for them.
"""

from __future__ import annotations

import re

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}")
_PHONE = re.compile(
    r"(?<![\w+])(?:(?:\+|00)33[ .-]?\(?0?\)?[ .-]?[1-9]|0[1-9])(?:[ .-]?\d{2}){4}(?!\d)|(?<![\w+])\+(?!33)\d{1,3}(?:[ .-]?\d){7,12}(?!\d)"
)
_NIR = re.compile(r"(?<!\w)([1-478][ .]?\d{2}[ .]?\d{2}[ .]?\d[\dAB][ .]?\d{3}[ .]?\d{3})[ .]?(\d{2})(?!\w)")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]){11,30}(?!\w)")
_IBAN_LENGTHS = {
    "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22,
    "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MA": 28, "MC": 27, "MT": 31,
    "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26,
}  # fmt: skip
# Registered lengths (ISO 13616) of the countries a French office meets.


def personal_data(text: str) -> list[str]:
    """The kinds of personal data found: `email`, `phone`, `nir`, `iban`, sorted, each once."""
    found = set()
    if _EMAIL.search(text):
        found.add("email")
    if any(_is_iban(match.group()) for match in _IBAN.finditer(text)):
        found.add("iban")
    if any(_is_nir(match.group(1), match.group(2)) for match in _NIR.finditer(text)):
        found.add("nir")
    if _PHONE.search(text):
        found.add("phone")
    return sorted(found)


def _is_nir(number: str, key: str) -> bool:
    digits = number.replace(" ", "").replace(".", "")
    # Corsica: 2A counts as 19 and 2B as 18 (INSEE).
    digits = digits.replace("2A", "19").replace("2B", "18")
    return digits.isdigit() and 97 - int(digits) % 97 == int(key)


def _is_iban(text: str) -> bool:
    compact = text.replace(" ", "")
    length = _IBAN_LENGTHS.get(compact[:2])
    if length is None or len(compact) < length:
        return False
    # The pattern may have run into the next word; the country says where the number ends.
    iban = compact[:length]
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1
