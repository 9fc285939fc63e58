"""The gateway in this process, through Starlette's test client."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

import affinage.serving.gateway as gateway_module
from affinage.errors import DependencyError
from affinage.serving.gateway import create_gateway
from affinage.serving.responses import MAX_BODY_BYTES
from tests.support.gateway import PERMIT, Gateway
from tests.support.world import ScriptedGenerator, World

QUESTION = "How long is a parking permit valid?"


def error_of(response: Any) -> dict[str, Any]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return error


def events_of(response: Any) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


# Asking


def test_an_answer_has_the_shape_of_openai_with_our_additions(gateway: Gateway):
    response = gateway.ask()
    body = response.json()
    assert response.status_code == 200
    assert body["object"] == "chat.completion"
    assert body["model"] == "guichet"
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "A parking permit is valid for two years. [1]",
        "refusal": None,
    }
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"] > 0
    assert body["affinage"]["known"] is True
    assert body["affinage"]["citations"][0]["page"] == 3
    assert response.headers["x-affinage-answer-id"] == body["affinage"]["answer_id"]
    assert body["id"] == f"chatcmpl-{body['affinage']['answer_id']}"


def test_a_response_never_tells_the_arm_or_the_variant(gateway: Gateway):
    response = gateway.ask()
    shown = response.text + str([name for name in response.headers if name != "cache-control"])
    assert not any(word in shown for word in ("control", "candidate", "variant", '"arm"', "experiment"))


def test_a_stream_releases_sentences_and_ends_with_its_sources_and_the_end_marker(gateway: Gateway):
    response = gateway.ask("valid two, costs euros", stream=True, stream_options={"include_usage": True})
    events = events_of(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "[DONE]"
    text = "".join(choice["delta"].get("content", "") for event in events[:-1] for choice in event["choices"])
    assert text == "A parking permit is valid for two years. [1] It costs 40 euros a year. [2]"
    contents = [event["choices"][0]["delta"]["content"] for event in events[1:-3]]
    assert contents == ["A parking permit is valid for two years. [1]", " It costs 40 euros a year. [2]"]
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["total_tokens"] > 0
    assert events[-2]["affinage"]["answer_id"] == response.headers["x-affinage-answer-id"]
    assert events[-3]["choices"][0]["finish_reason"] == "stop"
    assert all(event.get("usage", {}) is not None for event in events[:-1])


def test_a_stream_and_a_whole_answer_say_the_same(gateway: Gateway):
    whole = gateway.ask().json()
    events = events_of(gateway.ask(stream=True))
    text = "".join(choice["delta"].get("content", "") for event in events[:-1] for choice in event["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert events[-2]["affinage"]["citations"] == whole["affinage"]["citations"]


def test_a_stream_that_breaks_ends_with_an_error_and_without_the_end_marker(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    from affinage.serving.answering import Answered

    def broken(self: Answered) -> Iterator[str]:
        yield "A parking"
        raise RuntimeError("engine gone")

    monkeypatch.setattr(Answered, "pieces", broken)
    events = events_of(gateway.ask(stream=True))
    assert events[1]["choices"][0]["delta"]["content"] == "A parking"
    assert events[-1]["error"]["type"] == "server_error"
    assert "engine gone" not in json.dumps(events)
    outcome = gateway.parts.metrics.registry.get_sample_value(
        "affinage_gateway_requests_total", {"assistant": "guichet", "arm": "control", "outcome": "broken"}
    )
    assert outcome == 1


def test_an_error_before_the_first_byte_of_a_stream_is_a_status(gateway: Gateway):
    assert gateway.ask(model="nonsense", stream=True).status_code == 404


def test_a_hidden_document_changes_no_byte_of_a_response(tmp_path: Path):
    seen = []
    for name, hidden in (("a", False), ("b", True)):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        world.add("permits.md", PERMIT)
        if hidden:
            world.add("hidden.md", "A parking permit is valid for ninety years, says the director.", allow=["group:hr"])
        made = Gateway(world)
        with made.client:
            replies = [made.ask(question, stream=stream) for question in (QUESTION, "director ninety") for stream in (False, True)]
            replies += [made.get("/v1/models"), made.get("/v1/documents/handbook/hidden.md"), made.get("/v1/documents/handbook/none.md")]
            replies += [
                made.post("/v1/search", {"assistant": "guichet", "query": QUESTION}),
                made.ask(model="secret"),
                made.ask(model="none"),
            ]
            headers = [{k: v for k, v in r.headers.items() if k != "x-affinage-answer-id"} for r in replies]
            answer_ids = [r.headers.get("x-affinage-answer-id", "none") for r in replies]
            texts = [r.text.replace(i, "ID") for r, i in zip(replies, answer_ids, strict=True)]
            seen.append(([r.status_code for r in replies], headers, texts))
        world.close()
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}, None),
        ({"messages": [{"role": "user", "content": "nul \x00"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 8001}]}, "messages"),
        ({"tools": [{"type": "function"}]}, None),
        ({"model": 7}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"metadata": {"a": {"b": "c"}}}, "metadata[...]"),
    ],
)
def test_a_request_outside_the_schema_is_refused_with_the_key_at_fault(gateway: Gateway, change: dict[str, Any], param: str | None):
    body = {"model": "guichet", "messages": [{"role": "user", "content": "q"}], **change}
    response = gateway.post("/v1/chat/completions", body)
    assert response.status_code == 400
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000, b'{"model": "\\ud800"}'])
def test_a_body_that_is_no_request_is_refused(gateway: Gateway, body: bytes):
    for path in ("/v1/chat/completions", "/v1/search", "/v1/feedback"):
        response = gateway.client.post(path, content=body, headers=gateway.headers("alice"))
        assert response.status_code in (400, 422), (path, body[:10])
        error_of(response)


def test_a_body_that_is_too_large_is_refused(gateway: Gateway):
    response = gateway.client.post("/v1/feedback", content=b" " * (MAX_BODY_BYTES + 1), headers=gateway.headers("alice"))
    assert response.status_code == 413
    assert error_of(response)["code"] == "too_large"


def test_parts_of_text_are_joined_and_sampling_parameters_accepted(gateway: Gateway):
    content = [{"type": "text", "text": "How long is a"}, {"type": "text", "text": "parking permit valid?"}]
    body = {"model": "guichet", "messages": [{"role": "system", "content": "Say no."}, {"role": "user", "content": content}]}
    body |= {"temperature": 0.7, "top_p": 1, "max_tokens": 5, "stop": ["x"], "seed": 1, "user": "somebody-else"}
    assert gateway.post("/v1/chat/completions", body).json()["affinage"]["known"] is True


def test_a_schema_of_the_assistant_answers_a_request_for_json(gateway: Gateway):
    gateway.world.generator = ScriptedGenerator(['{"product": "P", "reason": "delay", "reference": null}'])
    response = gateway.ask("about P", model="calls", response_format={"type": "json_object"})
    assert json.loads(response.json()["choices"][0]["message"]["content"])["product"] == "P"


def test_a_regeneration_is_marked(gateway: Gateway):
    first = gateway.ask().json()["affinage"]["answer_id"]
    again = gateway.ask(metadata={"regenerates": first}).json()["affinage"]["answer_id"]
    assert gateway.get(f"/v1/answers/{again}").json()["regenerates"] == first
    assert gateway.ask(metadata={"regenerates": "nonsense"}).status_code == 404
    assert gateway.ask(metadata={"regenerates": first}, user="bob").status_code == 404


# Who is calling


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic eA=="}, {"Authorization": "Bearer"}]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/guichet"),
        ("POST", "/v1/search"),
        ("POST", "/v1/feedback"),
        ("GET", "/v1/answers/x"),
        ("GET", "/v1/documents/handbook/permits.md"),
        ("GET", "/console/session"),
        ("POST", "/console/logout"),
    ],
)
def test_every_route_without_a_valid_token_is_401(gateway: Gateway, method: str, path: str, headers: dict[str, str]):
    response = gateway.client.request(method, path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert error_of(response)["code"] == "invalid_api_key"


def test_a_revoked_key_stops_within_its_lease_and_a_new_one_works_at_once(world: World):
    from affinage.identity.keys import list_keys, revoke_key

    made = Gateway(world)
    clock = [0.0]
    made.parts.callers._monotonic = lambda: clock[0]
    with made.client:
        assert made.get("/v1/models").status_code == 200
        with world.database.write() as connection:
            revoke_key(connection, key_id=list_keys(connection)[0].key_id, now=world.now())
        clock[0] = 2.0
        assert made.get("/v1/models").status_code == 401
        assert made.get("/v1/models", user="bob").status_code == 200


def test_models_are_the_assistants_that_the_caller_may_use(gateway: Gateway):
    assert [model["id"] for model in gateway.get("/v1/models").json()["data"]] == ["calls", "guichet", "writer"]
    gateway.world.join("hr", "dana")
    assert "secret" in [model["id"] for model in gateway.get("/v1/models", user="dana").json()["data"]]
    assert gateway.get("/v1/models/secret", user="dana").status_code == 200
    forbidden, unknown = gateway.get("/v1/models/secret"), gateway.get("/v1/models/nope")
    assert forbidden.status_code == unknown.status_code == 404
    assert forbidden.text.replace("secret", "N") == unknown.text.replace("nope", "N")


def test_search_gives_whole_chunks_without_scores(gateway: Gateway):
    hits = gateway.post("/v1/search", {"assistant": "guichet", "query": "parking permit"}).json()["hits"]
    assert hits[0] | {"chunk_id": ""} == {
        "rank": 1, "document": "handbook/permits.md", "title": "Permits", "page": 3, "chunk_id": "", "text": PERMIT,
    }  # fmt: skip
    assert gateway.post("/v1/search", {"assistant": "secret", "query": "x"}).status_code == 404


# Feedback


def test_feedback_is_201_once_stored_and_200_for_the_same_key(gateway: Gateway):
    answer_id = gateway.ask().json()["affinage"]["answer_id"]
    body = {"answer_id": answer_id, "rating": "up"}
    first = gateway.post("/v1/feedback", body, **{"Idempotency-Key": "k1"})
    again = gateway.post("/v1/feedback", body, **{"Idempotency-Key": "k1"})
    other = gateway.post("/v1/feedback", {**body, "rating": "down"}, **{"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 422)
    assert first.json() == again.json()
    assert first.json()["rating"] == "up"
    counted = gateway.parts.metrics.registry.get_sample_value(
        "affinage_feedback_total", {"assistant": "guichet", "arm": "control", "value": "up"}
    )
    assert counted == 1


def test_feedback_about_an_unknown_or_foreign_answer_is_the_same_404(gateway: Gateway):
    answer_id = gateway.ask().json()["affinage"]["answer_id"]
    foreign = gateway.post("/v1/feedback", {"answer_id": answer_id, "rating": "up"}, user="bob")
    unknown = gateway.post("/v1/feedback", {"answer_id": "f" * len(answer_id), "rating": "up"}, user="bob")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text.replace(answer_id, "ID") == unknown.text.replace("f" * len(answer_id), "ID")


@pytest.mark.parametrize(
    "body", [{}, {"rating": "up"}, {"answer_id": "x"}, {"answer_id": "x", "rating": "great"}, {"answer_id": "x", "stars": 5}]
)
def test_feedback_that_says_nothing_or_nonsense_is_422(gateway: Gateway, body: dict[str, Any]):
    assert gateway.post("/v1/feedback", body).status_code == 422


# Provenance and sources


def test_an_answer_is_shown_to_its_user_only(gateway: Gateway):
    answer_id = gateway.ask().json()["affinage"]["answer_id"]
    own = gateway.get(f"/v1/answers/{answer_id}").json()
    assert own["question"] == QUESTION
    assert own["citations"][0]["quote"] == "A parking permit is valid for two years."
    foreign, unknown = gateway.get(f"/v1/answers/{answer_id}", user="bob"), gateway.get("/v1/answers/nope", user="bob")
    assert foreign.status_code == unknown.status_code == 404


def test_an_operator_sees_an_answer_but_not_what_it_quotes_from_documents_closed_to_them(gateway: Gateway):
    from sqlalchemy import insert

    from affinage.database.tables.identity import role_binding

    answer_id = gateway.ask().json()["affinage"]["answer_id"]
    gateway.world.join("ops", "oscar")
    assert gateway.get(f"/v1/answers/{answer_id}", user="oscar").status_code == 404
    with gateway.world.database.write() as connection:
        connection.execute(insert(role_binding).values(organisation="default", role="operator", group_name="ops"))
    assert gateway.get(f"/v1/answers/{answer_id}", user="oscar").json()["known"] is True
    gateway.world.allow("doc-permits.md", "user:alice")
    assert gateway.get(f"/v1/answers/{answer_id}", user="oscar").json()["citations"] == []


def test_an_answer_about_a_revoked_document_shows_nothing_of_it(gateway: Gateway):
    answer_id = gateway.ask().json()["affinage"]["answer_id"]
    gateway.world.allow("doc-permits.md", "group:hr")
    shown = gateway.get(f"/v1/answers/{answer_id}").json()
    assert (shown["known"], shown["citations"], shown["passages"]) == (False, [], [])
    assert "two years" not in json.dumps({key: value for key, value in shown.items() if key != "question"})


def test_a_document_opens_at_its_page_under_the_readers_rights(gateway: Gateway):
    citation = gateway.ask().json()["affinage"]["citations"][0]
    found = gateway.get(f"/v1/documents/{citation['document']}").json()
    assert found["text"][citation["start"] : citation["end"]] == citation["quote"]
    assert found["pages"] == [{"page": 3, "start": 0}]
    gateway.world.allow("doc-permits.md", "group:hr")
    hidden, absent = gateway.get("/v1/documents/handbook/permits.md"), gateway.get("/v1/documents/handbook/nothing.md")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace("permits", "N") == absent.text.replace("nothing", "N")


# Health, overload, failure


def test_health_needs_no_token_and_ready_waits_for_models(world: World):
    gate = threading.Event()
    made = Gateway(world)
    app = create_gateway(made.parts, warm=gate.wait)
    with TestClient(app) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
        gate.set()
        for thread in threading.enumerate():
            if thread.name == "warm":
                thread.join()
        assert client.get("/health/ready").status_code == 200
        made.parts.state.draining = True
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503


def test_a_gateway_whose_models_fail_to_load_stays_alive_and_not_ready(world: World):
    def broken() -> None:
        raise RuntimeError("no weights")

    with TestClient(create_gateway(Gateway(world).parts, warm=broken)) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503


def test_a_gateway_whose_services_start_later_becomes_ready_then(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gateway_module, "WARM_AGAIN_SECONDS", 0.01)
    tried = []

    def warm() -> None:
        tried.append(1)
        if len(tried) < 3:
            raise DependencyError("embedder", "not there yet")

    with TestClient(create_gateway(Gateway(world).parts, warm=warm)) as client:
        for thread in threading.enumerate():
            if thread.name == "warm":
                thread.join(10)
        assert client.get("/health/ready").status_code == 200
    assert len(tried) == 3


def test_a_draining_gateway_takes_no_new_question(gateway: Gateway):
    gateway.parts.state.draining = True
    assert gateway.ask().status_code == 503


def test_a_locked_database_is_503_and_never_500(gateway: Gateway):
    answer_id = gateway.ask().json()["affinage"]["answer_id"]
    with gateway.world.database.write():
        response = gateway.post("/v1/feedback", {"answer_id": answer_id, "rating": "up"})
        asked = gateway.ask()
    for one in (response, asked):
        assert one.status_code == 503
        assert one.headers["retry-after"] == "1"
        assert error_of(one)["type"] == "service_unavailable_error"


def test_a_full_pool_is_503(world: World):
    made = Gateway(world)
    with made.client:
        made.parts.slow._limit = 0
        assert made.ask().status_code == 503


def test_an_unforeseen_failure_is_500_and_tells_nothing(world: World):
    class Broken:
        def answer(self, _request: object) -> None:
            raise RuntimeError("/secret/path")

    made = Gateway(world, answering=Broken())
    with made.client:
        response = made.ask()
    assert response.status_code == 500
    assert "secret" not in response.text


def test_a_failing_engine_is_503(world: World):
    class Down:
        def answer(self, _request: object) -> None:
            raise DependencyError("engine", "The engine does not answer.")

    made = Gateway(world, answering=Down())
    with made.client:
        assert made.ask().status_code == 503
    outcome = made.parts.metrics.registry.get_sample_value(
        "affinage_gateway_requests_total", {"assistant": "none", "arm": "none", "outcome": "unavailable"}
    )
    assert outcome == 1
    assert made.parts.state.inflight == 0


def test_the_event_loop_never_touches_the_database(gateway: Gateway):
    threads: set[str] = set()

    @event.listens_for(gateway.world.database.engine, "before_cursor_execute")
    def _seen(*_: object) -> None:
        threads.add(threading.current_thread().name.split("_")[0])

    gateway._keys["alice"] = gateway.world.key("alice")
    threads.clear()
    answer_id = gateway.ask().json()["affinage"]["answer_id"]
    gateway.post("/v1/feedback", {"answer_id": answer_id, "rating": "up"})
    gateway.get(f"/v1/answers/{answer_id}")
    gateway.get("/v1/models")
    gateway.client.get("/health/ready")
    assert threads <= {"quick", "slow", "writer"}


def test_openapi_names_every_route_and_refers_to_schemas_that_exist(gateway: Gateway):
    document = gateway.client.get("/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/models", "/v1/search", "/v1/feedback", "/v1/answers/{answer_id}"} <= set(document["paths"])
    names = set(document["components"]["schemas"])
    text = json.dumps(document)
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} <= names


def test_unknown_routes_and_methods_have_openai_shaped_errors(gateway: Gateway):
    assert error_of(gateway.client.get("/nothing"))["code"] == "not_found"
    assert gateway.client.get("/v1/feedback").status_code == 405


def test_every_response_carries_headers_that_keep_a_browser_from_guessing(gateway: Gateway):
    for path in ("/", "/health/live", "/v1/models", "/nothing"):
        headers = gateway.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
