"""What a user may say of an answer, and its limits. Pure.

Called by the gateway and the command line with outside data; the limits bound memory and keep what is stored printable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from affinage.errors import UsageError

MAX_COMMENT_CHARS = 10_000
# Some three pages: a comment is read by a person.
MAX_CORRECTION_CHARS = 32_000
# No longer than an answer can be.
MAX_ITEMS = 100
# Reasons, ranked answers and marked spans of one submission.


def _storable(text: str) -> str:
    """Refuse what a database or a JSON file cannot hold."""
    if "\x00" in text:
        raise ValueError("must not contain NUL characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("must not contain unpaired surrogates") from None
    return text


Text = Annotated[str, AfterValidator(_storable)]
AnswerId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]


class Span(BaseModel):
    """A marked part of the answer's text: half-open character offsets, and what is wrong (or right) with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(ge=0)
    end: int = Field(ge=1)
    label: Annotated[Text, Field(min_length=1, max_length=100)]
    comment: Annotated[Text, Field(max_length=MAX_COMMENT_CHARS)] | None = None

    @model_validator(mode="after")
    def _forward(self) -> Span:
        if self.end <= self.start:
            raise ValueError("a span ends after it starts")
        return self


class Submission(BaseModel):
    """One submission about one answer: at least one of the parts besides `reasons`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer_id: AnswerId
    rating: Literal["up", "down"] | None = None
    reasons: Annotated[tuple[Annotated[Text, Field(min_length=1, max_length=100)], ...], Field(max_length=MAX_ITEMS)] = ()
    comment: Annotated[Text, Field(min_length=1, max_length=MAX_COMMENT_CHARS)] | None = None
    correction: Annotated[Text, Field(min_length=1, max_length=MAX_CORRECTION_CHARS)] | None = None
    preferred_over: AnswerId | None = None
    ranking: Annotated[tuple[AnswerId, ...], Field(min_length=2, max_length=MAX_ITEMS)] | None = None
    spans: Annotated[tuple[Span, ...], Field(min_length=1, max_length=MAX_ITEMS)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Submission:
        if all(value is None for value in (self.rating, self.comment, self.correction, self.preferred_over, self.ranking, self.spans)):
            raise ValueError("needs at least one of rating, comment, correction, preferred_over, ranking, spans")
        if self.correction is not None and not self.correction.strip():
            raise ValueError("a correction must hold some text")
        if self.ranking is not None and len(set(self.ranking)) != len(self.ranking):
            raise ValueError("a ranking names each answer once")
        return self

    def body_digest(self) -> str:
        """SHA-256 over what was said: equal for equal submissions, whatever the order of keys."""
        return digest_of_body(self.model_dump(mode="json"))


def digest_of_body(body: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON of `body`."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def parse_submission(raw: object) -> Submission:
    """Check outside data (a decoded JSON body).

    Raises
    ------
    UsageError
        If a key is unknown, a value is wrong or too long, or nothing is said; names the first.
    """
    if not isinstance(raw, Mapping):
        raise UsageError("Feedback must be a JSON object.", hint="Send `answer_id` and, for example, `rating`.", status=422)
    try:
        return Submission.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        about = f"Feedback key `{where}`" if where else "Feedback"
        raise UsageError(
            f"{about} is wrong: {first['msg'].removeprefix('Value error, ')}.",
            hint="Keys: answer_id, rating (up or down), reasons, comment, correction, preferred_over, ranking, spans.",
            status=422,
            param=where,
        ) from None


def check_reasons(reasons: Sequence[str], *, known: Sequence[str]) -> None:
    """Refuse a reason that the assistant does not offer."""
    wrong = sorted(set(reasons) - set(known))
    if wrong:
        raise UsageError(
            f"`{wrong[0]}` is not one of the assistant's reasons.",
            hint=f"Its reasons are: {', '.join(known)}.",
            status=422,
            param="reasons",
        )
