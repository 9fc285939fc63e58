"""People ask, rate and correct: through the gateway as any client does, then in numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import urllib3

from affinage.demo import own_documents
from affinage.demo.calls import Call, training_calls
from affinage.demo.declarations import APPELS, GUICHET
from affinage.demo.people import Judgement, rate_answer, review_extraction
from affinage.demo.questions import Question
from affinage.demo.questions import questions as invented_questions
from affinage.demo.tour import SEED, Tour
from affinage.errors import DependencyError
from affinage.feedback.submission import Submission
from affinage.feedback.submit import submit
from affinage.identity.keys import create_key
from affinage.serving.answering import Answered, AskRequest
from affinage.serving.server import background_gateway

T = TypeVar("T")
QUESTIONS_AT_ONCE = 32
CALLS_AT_ONCE = 24
# Generation gains from batches up to about this size on two cores; retrieval does not care.


def gateway(tour: Tour) -> dict[str, Any]:
    """One question over HTTP, plain and streamed, and a rating that is on disk when it is acknowledged."""
    asked = tour_questions(tour)[0]
    with tour.app.database.write() as connection:
        _, key = create_key(connection, user=asked.user, now=tour.app.now(), new_id=tour.app.new_id)
    body = {"model": GUICHET, "messages": [{"role": "user", "content": asked.text}]}
    with background_gateway(tour.app.gateway()) as url:
        client = _Client(url, key)
        models = [model["id"] for model in client.call("GET", "/v1/models")["data"]]
        reply = client.call("POST", "/v1/chat/completions", body)
        streamed = client.stream("/v1/chat/completions", {**body, "stream": True})
        rated = client.call("POST", "/v1/feedback", {"answer_id": reply["affinage"]["answer_id"], "rating": "up"})
    return {
        "models": models,
        "question": asked.text,
        "answer": reply["choices"][0]["message"]["content"],
        "sources": [f"{c['document']} [{c['start']}:{c['end']}]" for c in reply["affinage"]["citations"]],
        "streamed_alike": streamed == reply["choices"][0]["message"]["content"],
        "feedback_id": rated["feedback_id"],
    }


def questions(tour: Tour) -> dict[str, Any]:
    """Each agent asks about the documents of their own subject, and says what they think of the answer."""
    rng = np.random.default_rng(SEED)
    said: Counter[str] = Counter()
    for batch in _batches(tour_questions(tour), QUESTIONS_AT_ONCE):
        answered = tour.app.answering.answer_many([AskRequest.of(GUICHET, q.text, user=q.user) for q in batch])
        judged = [rate_answer(rng, q.user, q, a.citations()) for q, a in zip(batch, answered, strict=True)]
        said += store_judgements(tour, answered, judged)
        said["asked"] += len(batch)
        said["known"] += sum(a.record.known for a in answered)
    return dict(said)


def calls(tour: Tour) -> dict[str, Any]:
    """Agents paste calls; the bare model hardly gives JSON, so they write the right one."""
    rng = np.random.default_rng(SEED)
    said: Counter[str] = Counter()
    for batch in _batches(training_calls(), CALLS_AT_ONCE):
        answered = ask_calls(tour, batch)
        judged = [review_extraction(rng, call, read_json(a.record.text)) for call, a in zip(batch, answered, strict=True)]
        said += store_judgements(tour, answered, judged)
        said["calls"] += len(batch)
        said["valid_json"] += sum(read_json(a.record.text) is not None for a in answered)
    return dict(said)


def ask_calls(tour: Tour, calls_to_ask: Sequence[Call]) -> list[Answered]:
    """The assistant's records of these calls, generated in one batch."""
    return tour.app.answering.answer_many([AskRequest.of(APPELS, call.text, user=call.user) for call in calls_to_ask])


def tour_questions(tour: Tour) -> Sequence[Question]:
    """What is asked: the invented questions, or those made from one's own documents."""
    if tour.own_documents is None:
        return invented_questions()
    if "questions" not in tour.facts:
        tour.facts["questions"] = own_documents.questions(tour)
    made: Sequence[Question] = tour.facts["questions"]
    return made


def store_judgements(tour: Tour, answered: Sequence[Answered], judged: Sequence[Judgement]) -> Counter[str]:
    """Submit what people said of these answers, in one transaction; counts by kind."""
    said: Counter[str] = Counter()
    with tour.app.database.write() as connection:
        for answer, judgement in zip(answered, judged, strict=True):
            if judgement.silent:
                said["silent"] += 1
                continue
            submission = Submission(answer_id=answer.record.answer_id, rating=judgement.rating, correction=judgement.correction)
            submit(connection, submission, by=answer.record.user_name, now=tour.app.now(), new_id=tour.app.new_id)
            if judgement.rating:
                said[judgement.rating] += 1
            said["corrected"] += judgement.correction is not None
    return said


def read_json(text: str) -> object:
    """What a program reads from an answer: the JSON value, or None."""
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class _Client:
    """The few lines of HTTP that any OpenAI client sends."""

    def __init__(self, url: str, key: str) -> None:
        self._http = urllib3.PoolManager(retries=False, timeout=120)
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request and its JSON reply."""
        reply = self._send(method, path, body)
        result: dict[str, Any] = json.loads(reply.data)
        return result

    def stream(self, path: str, body: dict[str, Any]) -> str:
        """The text that a streamed answer adds up to."""
        lines = self._send("POST", path, body).data.decode().splitlines()
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if not events or events[-1] != "[DONE]":
            raise DependencyError("gateway", "The streamed answer ended early.")
        pieces = [choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"]]
        return "".join(pieces)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> urllib3.BaseHTTPResponse:
        data = json.dumps(body).encode() if body is not None else None
        reply = self._http.request(method, self._url + path, body=data, headers=self._headers)
        if reply.status >= 400:
            raise DependencyError("gateway", f"{method} {path} gave {reply.status}: {reply.data.decode(errors='replace')[:300]}")
        return reply
