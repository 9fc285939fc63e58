from __future__ import annotations

import re
from importlib import resources

import pytest

from affinage.console.pages import FILES, POLICY
from affinage.serving.sessions import COOKIE
from tests.support.gateway import Gateway

STATIC = resources.files("affinage.console") / "static"


def test_a_link_signs_in_once(gateway: Gateway):
    token = gateway.parts.sessions.invite("alice")
    first = gateway.client.get(f"/login?token={token}", follow_redirects=False)
    cookie = first.headers["set-cookie"]
    assert first.status_code == 303
    assert first.headers["location"] == "/"
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    session = gateway.client.get("/console/session").json()
    assert session["user"] == "alice"
    gateway.client.cookies.clear()
    again = gateway.client.get(f"/login?token={token}", follow_redirects=False)
    assert "set-cookie" not in again.headers
    assert again.headers["location"] == "/?signin=failed"


def test_a_link_expires(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    from datetime import timedelta

    token = gateway.parts.sessions.invite("alice")
    monkeypatch.setattr(gateway.parts.sessions, "_now", lambda: gateway.world.now() + timedelta(minutes=16))
    assert gateway.parts.sessions.redeem(token) is None


def signed_in(gateway: Gateway, user: str = "alice") -> str:
    gateway.client.get(f"/login?token={gateway.parts.sessions.invite(user)}", follow_redirects=False)
    return str(gateway.client.get("/console/session").json()["csrf"])


def test_a_change_by_cookie_needs_the_csrf_token(gateway: Gateway):
    csrf = signed_in(gateway)
    body = {"model": "guichet", "messages": [{"role": "user", "content": "parking permit"}]}
    for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": "é".encode()}):
        assert gateway.client.post("/v1/chat/completions", json=body, headers=headers).status_code == 403
    assert gateway.client.post("/v1/chat/completions", json=body, headers={"X-CSRF-Token": csrf}).status_code == 200


def test_signing_out_ends_the_session_on_the_server(gateway: Gateway):
    csrf = signed_in(gateway)
    cookie = gateway.client.cookies[COOKIE]
    assert gateway.client.post("/console/logout", headers={"X-CSRF-Token": csrf}).status_code == 200
    gateway.client.cookies.set(COOKIE, cookie)
    assert gateway.client.get("/console/session").status_code == 401


def test_the_page_and_its_files_come_with_the_policy(gateway: Gateway):
    for path in ("/", *(f"/console/{name}" for name in FILES)):
        response = gateway.client.get(path)
        assert response.status_code == 200
        assert response.headers["content-security-policy"] == POLICY
    assert gateway.client.get("/console/../pages.py").status_code == 404


def test_the_page_names_nothing_outside_and_holds_no_inline_code():
    page = (STATIC / "index.html").read_text()
    for name in ("index.html", "console.js", "words.js", "console.css"):
        text = (STATIC / name).read_text()
        assert not re.search(r"https?://", text), name
        assert "innerHTML" not in text
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=", page)
    assert "unsafe" not in POLICY


def test_both_languages_have_the_same_words_and_the_page_uses_only_those():
    words = (STATIC / "words.js").read_text()
    blocks = re.split(r"\n  (?:en|fr): \{", words)[1:]
    keys = [set(re.findall(r"(?:^|[\s{])(\w+): ", block)) for block in blocks]
    assert keys[0] == keys[1]
    used = set(re.findall(r'data-word="(\w+)"', (STATIC / "index.html").read_text()))
    used |= set(re.findall(r"\bT\.(\w+)", (STATIC / "console.js").read_text()))
    assert used <= keys[0]


def test_every_field_has_a_label():
    page = (STATIC / "index.html").read_text()
    for field in re.findall(r'<(?:select|textarea) id="(\w+)"', page):
        assert f'for="{field}"' in page
