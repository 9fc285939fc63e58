"""Formal filters: each looks at one candidate, or at all of them, and says why one is left out. Pure.

Order matters and is the caller's: single rows first, then what depends on the others. A filter returns the reason, a
bounded word of `REASONS`, or None.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from affinage.datasets.candidates import Candidate, Rejected
from affinage.datasets.duplicates import similar_pairs, similarity
from affinage.datasets.personal import personal_data
from affinage.identity.rights import covers

REASONS = (
    "empty", "schema", "length", "references", "quotes", "language", "personal_data", "licence", "rights",
    "user_cap", "contradiction", "near_duplicate", "split",
)  # fmt: skip
MAX_QUESTION_CHARS = 8_000
MAX_TARGET_CHARS = 8_000
# A target is dropped when it is too long, never cut: a cut target teaches to stop in the middle.
MAX_REFERENCES = 6
MIN_QUOTE_WORDS = 4
# Shorter quotation marks are terms, not citations.
MIN_LANGUAGE_CHARS = 60
# Below this language identification guesses.
NEAR_DUPLICATE = 0.8
USER_ROWS = 20
USER_SHARE = 0.05
AGREEMENT = 2 / 3

_MARKER = re.compile(r"\[(\d{1,3})\]")
_QUOTED = re.compile(r"«\s?([^«»]+?)\s?»|“([^“”]+)”|\"([^\"\n]+)\"")

OPEN_LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0")
"""Licences that let a model learn from what the licensed model wrote."""


def empty(row: Candidate) -> str | None:
    """Nothing was asked, or nothing would be learnt."""
    return None if row.question.strip() and row.target.strip() else "empty"


def length(row: Candidate) -> str | None:
    """Question or target is longer than what production sends or returns."""
    return "length" if len(row.question) > MAX_QUESTION_CHARS or len(row.target) > MAX_TARGET_CHARS else None


def references(row: Candidate) -> str | None:
    """A marker `[n]` that names no passage, or more markers than a reader follows."""
    if not row.passages:
        return None
    numbers = [int(number) for number in _MARKER.findall(row.target)]
    wrong = len(set(numbers)) > MAX_REFERENCES or any(not 1 <= number <= len(row.passages) for number in numbers)
    return "references" if wrong else None


def exact_quotes(row: Candidate) -> str | None:
    """A quotation of four words or more that stands in none of the passages, to the character."""
    if not row.passages:
        return None
    quotes = (next(filter(None, match.groups())) for match in _QUOTED.finditer(row.target))
    wrong = any(len(quote.split()) >= MIN_QUOTE_WORDS and not any(quote in passage for passage in row.passages) for quote in quotes)
    return "quotes" if wrong else None


def language(row: Candidate, *, languages: Collection[str], detect: Callable[[str], str]) -> str | None:
    """The target is in a language that the assistant does not speak."""
    if len(row.target) < MIN_LANGUAGE_CHARS or row.target.lstrip().startswith("{"):
        return None  # JSON has keys, not sentences
    return None if detect(row.target) in languages else "language"


def personal(row: Candidate) -> str | None:
    """What the user wrote holds an e-mail address, a phone number, a social security number or an IBAN."""
    return "personal_data" if personal_data(row.own_text) else None


def rights(row: Candidate, *, audience: Collection[str]) -> str | None:
    """Somebody in the audience may not read what the row was made from."""
    return None if covers(row.allow, audience) else "rights"


def licence(row: Candidate, *, licences: dict[str, str]) -> str | None:
    """The target was written by a model whose terms are unknown, or do not allow to learn from it.

    Parameters
    ----------
    licences
        Licence by engine name; an engine that is missing has unknown terms.
    """
    if row.generated_by is None:
        return None
    return None if licences.get(row.generated_by, "unknown").lower() in OPEN_LICENCES else "licence"


def split_off(rows: Iterable[Candidate], reason_of: Callable[[Candidate], str | None]) -> tuple[list[Candidate], list[Rejected]]:
    """The rows without a reason, and the others with theirs."""
    kept, rejected = [], []
    for row in rows:
        reason = reason_of(row)
        if reason is None:
            kept.append(row)
        else:
            rejected.append(Rejected(row, reason))
    return kept, rejected


def near_duplicates(rows: Sequence[Candidate], *, within_user: bool) -> tuple[list[Candidate], list[Rejected]]:
    """Leave out what nearly repeats an earlier row: much the same question with much the same target.

    Parameters
    ----------
    within_user
        Compare a user's rows with their own only. Done before the cap, so that repeating oneself fills nobody's quota;
        the comparison between users comes after it, so that a flood displaces nobody's rows.
    """
    ordered = sorted(rows, key=lambda row: row.order)
    earlier: dict[int, list[int]] = defaultdict(list)
    for i, j in similar_pairs([row.question for row in ordered], threshold=NEAR_DUPLICATE):
        if (not within_user or ordered[i].user == ordered[j].user) and _same_lesson(ordered[i], ordered[j]):
            earlier[j].append(i)
    dropped: set[int] = set()
    for j in sorted(earlier):
        if any(i not in dropped for i in earlier[j]):
            dropped.add(j)
    return split_off(ordered, _by_index(ordered, dropped, "near_duplicate"))


def _same_lesson(a: Candidate, b: Candidate) -> bool:
    # Up and down on the same text are a contradiction, not a repetition: that filter decides.
    return (a.kind not in ("kto", "dpo") or a.verdict == b.verdict) and similarity(a.target, b.target) >= NEAR_DUPLICATE


def contradictions(rows: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejected]]:
    """Leave out what people disagree on: below two thirds agreement all rows go, above it the minority goes."""
    voters: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.topic:
            voters[row.topic][row.verdict].add(row.user or row.example_id)
    accepted: dict[str, str | None] = {}
    for topic, verdicts in voters.items():
        votes = Counter({verdict: len(users) for verdict, users in verdicts.items()})
        (first, most), *_ = sorted(votes.items(), key=lambda item: (-item[1], item[0]))
        accepted[topic] = first if most >= AGREEMENT * votes.total() else None
    return split_off(rows, lambda row: None if not row.topic or accepted[row.topic] == row.verdict else "contradiction")


def cap_rows(rows: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejected]]:
    """Keep each user's earliest rows, at most `USER_ROWS`: more of them change nothing."""
    return _cap(rows, USER_ROWS)


def cap_share(rows: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejected]]:
    """Keep so many of each user's earliest rows that nobody has more than `USER_SHARE` of what is kept.

    With fewer than 20 people somebody always has more than 5 %: then the number of rows is the only bound, and the
    manifest shows the largest share.
    """
    counts = Counter(row.user for row in rows if row.user is not None)
    others = sum(1 for row in rows if row.user is None)
    for bound in range(USER_ROWS, 0, -1):
        # Written as a division by the share's inverse, which is exact: 0.05 is not.
        if bound * round(1 / USER_SHARE) <= others + sum(min(count, bound) for count in counts.values()):
            return _cap(rows, bound)
    return _cap(rows, USER_ROWS)


def _cap(rows: Sequence[Candidate], bound: int) -> tuple[list[Candidate], list[Rejected]]:
    ordered = sorted(rows, key=lambda row: row.order)
    seen: Counter[str] = Counter()
    over: set[int] = set()
    for i, row in enumerate(ordered):
        if row.user is not None:
            seen[row.user] += 1
            if seen[row.user] > bound:
                over.add(i)
    return split_off(ordered, _by_index(ordered, over, "user_cap"))


def _by_index(rows: Sequence[Candidate], indices: Collection[int], reason: str) -> Callable[[Candidate], str | None]:
    chosen = {id(rows[i]) for i in indices}
    return lambda row: reason if id(row) in chosen else None
