"""One operation from a question to a recorded answer, shared by gateway, command line and demo.

Who asks, which variant answers, what is found, what the engine says, what of it is true, and the record: in this order.
Slow work (search, generation) happens outside transactions; rights are read at the start and again just before the
answer leaves. Knows nothing of HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from affinage.answers.answer import CheckedAnswer, Prepared, Search, Select, check, joined, prepare
from affinage.answers.citations import PUBLIC_KEYS, Sentence
from affinage.answers.prompts import Prompt
from affinage.answers.records import Answer, find_answer, save_answer
from affinage.answers.variant import Variant
from affinage.blobs import digest_of
from affinage.database.engine import Database
from affinage.declarations.model import AssistantSpec
from affinage.declarations.repository import get_assistant, list_assistants
from affinage.engines.protocols import Generation, GenerationRequest, Generator, Message
from affinage.errors import UnknownObjectError, UsageError
from affinage.feedback.submit import record_regeneration
from affinage.identity.directory import reader_of
from affinage.identity.pseudonyms import pseudonym
from affinage.identity.rights import EVERYONE, Reader, may_read
from affinage.identity.secrets import PSEUDONYMS, installation_secret
from affinage.index.passages import Passage
from affinage.index.reading import current_passage
from affinage.serving.routing import DatabaseRouting, Routed

ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class AskRequest:
    """One question to one assistant.

    The last message is the user's and is what is searched and answered; earlier ones are recorded. `user` None is an
    anonymous caller, who reads what `everyone` may read and takes part in no experiment.
    """

    assistant: str
    messages: tuple[Message, ...]
    user: str | None
    groups: tuple[str, ...] = ()
    regenerates: str | None = None
    wants_json: bool = False

    @classmethod
    def of(cls, assistant: str, question: str, *, user: str | None, groups: Sequence[str] = ()) -> AskRequest:
        """A request of one question."""
        return cls(assistant, (Message("user", question),), user, tuple(groups))

    @property
    def question(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content if self.messages else ""


@dataclass(frozen=True)
class Answered:
    """A recorded answer. `sentences` are what a stream releases one by one."""

    record: Answer
    sentences: tuple[Sentence, ...]

    def citations(self) -> list[dict[str, Any]]:
        """The citations as callers see them."""
        return [{key: citation[key] for key in PUBLIC_KEYS} for citation in self.record.citations]

    def as_dict(self) -> dict[str, Any]:
        """The keys of `affinage ask --json`."""
        record = self.record
        return {"answer_id": record.answer_id, "text": record.text, "known": record.known, "citations": self.citations()}

    def pieces(self) -> list[str]:
        """The text in the pieces that a stream releases; together they are the text."""
        pieces = [joined([sentence]) for sentence in self.sentences]
        if " ".join(pieces) != self.record.text:
            return [self.record.text]
        return [piece if index == 0 else f" {piece}" for index, piece in enumerate(pieces)]


@dataclass(frozen=True)
class _Plan:
    request: AskRequest
    spec: AssistantSpec
    reader: Reader
    unit: str | None
    routed: Routed


class Answering:
    """Answers questions.

    Parameters
    ----------
    search_of, generator_of
        Built at first use: an assistant without sources needs no index, an extractive one no model.
    prompt_of
        Prompt of a variant: (declaration, digest) -> template.
    load_adapter
        Makes the adapter of a variant available on a generator, or raises; never replaces it by another.
    commit
        Runs a function in one write transaction; the gateway gives its writer thread's.
    """

    def __init__(
        self,
        *,
        database: Database,
        search_of: Callable[[], Search],
        generator_of: Callable[[str], Generator],
        select: Select,
        routing: DatabaseRouting,
        prompt_of: Callable[[AssistantSpec, str], Prompt],
        load_adapter: Callable[[Generator, Variant], None],
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        commit: Callable[[Callable[[Connection], None]], None] | None = None,
    ) -> None:
        self._database = database
        self._search_of = search_of
        self._generator_of = generator_of
        self._select = select
        self._routing = routing
        self._prompt_of = prompt_of
        self._load_adapter = load_adapter
        self._now = now
        self._new_id = new_id
        self._commit = commit or self._commit_here
        self._secret: bytes | None = None
        # An engine is built, and an adapter loaded, once; engines order their own generations.
        self._loading = threading.Lock()

    def answer(self, request: AskRequest) -> Answered:
        """Answer one question and record it.

        Raises
        ------
        UnknownObjectError
            If there is no such assistant, or not for this user (the same error); or `regenerates` is no answer of theirs.
        UsageError
            If the question is empty or longer than the assistant takes.
        """
        return self.answer_many([request])[0]

    def answer_many(self, requests: Sequence[AskRequest]) -> list[Answered]:
        """Answer several questions, generating in one batch for each engine; results in the order of `requests`."""
        started = time.monotonic()
        plans = self._plan(requests)
        prepared = [self._prepare(plan) for plan in plans]
        replies = self._generate(plans, prepared)
        checked = [
            check(ready, None if reply is None else reply.text, select=self._select, recheck=partial(self._recheck, plan))
            for plan, ready, reply in zip(plans, prepared, replies, strict=True)
        ]
        seconds = time.monotonic() - started
        answered = [
            self._answered(plan, ready, reply, answer, seconds)
            for plan, ready, reply, answer in zip(plans, prepared, replies, checked, strict=True)
        ]
        self._commit(lambda connection: self._record(connection, plans, answered))
        return answered

    def assistants(self, user: str, *, groups: Sequence[str] = ()) -> list[AssistantSpec]:
        """The assistants that this user may use, by name."""
        with self._database.read() as connection:
            who = reader_of(connection, user=user, groups=groups)
            return [spec for spec in list_assistants(connection) if may_read(who.principals, spec.audience())]

    def search(self, assistant: str, query: str, *, user: str | None, groups: Sequence[str] = (), k: int = 10) -> list[Passage]:
        """What this user finds in the sources of an assistant, best first.

        Raises
        ------
        UnknownObjectError
            If there is no such assistant, or not for this user.
        """
        plan = self._plan([AskRequest.of(assistant, query, user=user, groups=groups)])[0]
        if not plan.spec.sources:
            return []
        return self._search_of().search(query, generations=plan.routed.variant.generations, principals=plan.reader.principals, k=k)

    def _plan(self, requests: Sequence[AskRequest]) -> list[_Plan]:
        secret = self._installation_secret()
        with self._database.read() as connection:
            return [self._plan_one(connection, request, secret) for request in requests]

    def _plan_one(self, connection: Connection, request: AskRequest, secret: bytes) -> _Plan:
        reader = _reader(connection, request)
        spec = allowed_assistant(connection, request.assistant, reader)
        _check_question(request, spec)
        if request.wants_json and spec.answer_schema is None:
            raise UsageError(f"Assistant `{spec.name}` answers in text.", hint="Leave out `response_format`.", param="response_format")
        if request.regenerates is not None:
            before = find_answer(connection, request.regenerates)
            if before is None or before.user_name != reader.user or before.assistant != spec.name:
                raise UnknownObjectError("answer", request.regenerates, hint="`regenerates` names an earlier answer of yours.")
        unit = None if request.user is None else pseudonym(secret, request.user)
        return _Plan(request, spec, reader, unit, self._routing.route(connection, spec, unit=unit))

    def _prepare(self, plan: _Plan) -> Prepared:
        variant = plan.routed.variant
        return prepare(
            plan.spec.model_copy(update={"engine": variant.engine}),
            plan.request.question,
            prompt=self._prompt_of(plan.spec, variant.prompt_digest),
            search=self._search_of() if plan.spec.sources else None,
            generations=variant.generations,
            principals=plan.reader.principals,
        )

    def _generate(self, plans: Sequence[_Plan], prepared: Sequence[Prepared]) -> list[Generation | None]:
        replies: list[Generation | None] = [None] * len(plans)
        by_engine: dict[str, list[int]] = {}
        for index, ready in enumerate(prepared):
            if ready.needs_engine:
                by_engine.setdefault(ready.spec.engine, []).append(index)
        for engine, indices in by_engine.items():
            with self._loading:
                generator = self._generator_of(engine)
                for variant in {plans[index].routed.variant.variant_id: plans[index].routed.variant for index in indices}.values():
                    if variant.adapter is not None:
                        self._load_adapter(generator, variant)
            batch = [generation_request(prepared[i].messages, plans[i].routed.variant, plans[i].spec) for i in indices]
            for index, reply in zip(indices, generator.generate(batch), strict=True):
                replies[index] = reply
        return replies

    def _recheck(self, plan: _Plan, chunk_id: str) -> Passage | None:
        # Rights again, and anew for each quote: groups and documents may have changed while the engine was at work.
        with self._database.read() as connection:
            principals = _reader(connection, plan.request).principals
            return current_passage(connection, chunk_id, generations=plan.routed.variant.generations, principals=principals)

    def _answered(self, plan: _Plan, ready: Prepared, reply: Generation | None, answer: CheckedAnswer, seconds: float) -> Answered:
        routed, request = plan.routed, plan.request
        record = Answer(
            answer_id=self._new_id(),
            organisation=plan.spec.organisation,
            assistant=plan.spec.name,
            user_name=plan.reader.user,
            unit=plan.unit or "",
            messages=[asdict(message) for message in request.messages],
            question=request.question,
            text=answer.text,
            language=answer.language,
            known=answer.known,
            citations=[citation.stored() for citation in answer.citations],
            passages=[_offered(passage, rank) for rank, passage in enumerate(ready.passages, 1)],
            prompt_digest=ready.prompt_digest,
            generations=dict(routed.variant.generations),
            variant_id=routed.variant.variant_id,
            adapter=routed.variant.adapter,
            experiment_id=routed.assignment.experiment_id if plan.unit else None,
            arm=routed.assignment.arm,
            q=routed.assignment.q,
            regenerates=request.regenerates,
            guardrails=dict(answer.guardrails),
            # The extractive engine has no tokens of its own: words, so that usage is never null.
            input_tokens=len(request.question.split()) if reply is None else reply.input_tokens,
            output_tokens=len(answer.text.split()) if reply is None else reply.output_tokens,
            seconds=seconds,
            created_at=self._now(),
        )
        return Answered(record, answer.sentences)

    def _record(self, connection: Connection, plans: Sequence[_Plan], answered: Sequence[Answered]) -> None:
        for plan, one in zip(plans, answered, strict=True):
            record = one.record
            save_answer(connection, record)
            self._routing.record(connection, plan.spec, plan.routed, unit=plan.unit, answer_id=record.answer_id, now=record.created_at)
            if record.regenerates is not None:
                record_regeneration(
                    connection, record.regenerates, record.answer_id, by=record.user_name, now=record.created_at, new_id=self._new_id
                )

    def _commit_here(self, work: Callable[[Connection], None]) -> None:
        with self._database.write() as connection:
            work(connection)

    def _installation_secret(self) -> bytes:
        if self._secret is None:
            with self._database.write() as connection:
                self._secret = installation_secret(connection, PSEUDONYMS)
        return self._secret


def allowed_assistant(connection: Connection, name: str, reader: Reader) -> AssistantSpec:
    """The assistant, if it exists and `reader` may use it; the same error when not."""
    hint = "The console and `GET /v1/models` list the assistants that you may use."
    try:
        spec = get_assistant(connection, name)
    except UnknownObjectError as error:
        raise UnknownObjectError("assistant", name, hint=hint) from error
    if not may_read(reader.principals, spec.audience()):
        raise UnknownObjectError("assistant", name, hint=hint)
    return spec


def generation_request(messages: Sequence[Message], variant: Variant, spec: AssistantSpec) -> GenerationRequest:
    """What a generator is asked for one answer of `variant`."""
    decoding: Mapping[str, Any] = variant.decoding
    return GenerationRequest(
        messages=tuple(messages),
        adapter=variant.adapter,
        max_tokens=int(decoding.get("max_tokens", spec.max_output_tokens)),
        temperature=float(decoding.get("temperature", 0.0)),
        schema=spec.answer_schema,
    )


def _reader(connection: Connection, request: AskRequest) -> Reader:
    if request.user is None:
        return Reader(ANONYMOUS, frozenset({EVERYONE}))
    return reader_of(connection, user=request.user, groups=request.groups)


def _check_question(request: AskRequest, spec: AssistantSpec) -> None:
    if not request.messages or request.messages[-1].role != "user" or not request.question.strip():
        raise UsageError("The question is empty.", hint="The last message must be the user's and hold text.", param="messages")
    limit = spec.guardrails.max_question_chars
    if len(request.question) > limit:
        raise UsageError(
            f"The question has {len(request.question)} characters; assistant `{spec.name}` takes {limit}.",
            hint="Shorten the question.",
            param="messages",
            code="question_too_long",
        )


def _offered(passage: Passage, rank: int) -> dict[str, Any]:
    return {
        "chunk_id": passage.chunk_id,
        "doc_key": passage.doc_key,
        "document": passage.document,
        "digest": digest_of(passage.text.encode()),
        "rank": rank,
        "allow": list(passage.allow),
    }
