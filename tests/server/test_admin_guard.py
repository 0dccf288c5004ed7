"""The admin page lets in who knows the password, and nobody else, by no way around."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from gewe_cache.server.admin.attempts import MOST_OF_ONE
from gewe_cache.server.admin.guard import COOKIE
from gewe_cache.server.admin.sessions import Sessions
from tests.server.admin_operator import PASSWORD, PREFIX, Operator
from tests.server.kit import LIMITS, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.kit import Proxy, World

_PAGES = ("", "entries/list", "entries/detail?pk=1", "broadcasts/list", "broadcasts/detail?pk=1", "none", "metrics/")


@pytest.fixture
def admin(world: World) -> Proxy:
    return world.open(admin_password=PASSWORD)


@pytest.fixture
def stranger(admin: Proxy) -> Iterator[Operator]:
    with Operator(admin) as operator:
        yield operator


@pytest.fixture
def operator(admin: Proxy) -> Iterator[Operator]:
    with Operator(admin) as operator:
        yield operator.log_in()


def test_without_a_session_there_is_the_login_page_alone(stranger: Operator) -> None:
    for path in _PAGES:
        answer = stranger.get(path)
        assert (answer.status_code, answer.text) == (303, "")
        assert answer.headers["location"].startswith(f"{PREFIX}login")


def test_without_a_session_nothing_can_be_changed(stranger: Operator) -> None:
    for path in ("logout", "_api/entries/row-action?name=forget&pk=1", "_api/entries/action", "none"):
        assert stranger.post(path).status_code == 401


def test_what_starlette_admin_has_besides_is_not_served(operator: Operator) -> None:
    for path in (
        "entries/create",
        "entries/edit?pk=1",
        "_api/entries/relation-lookup",
        "_api/entries/inline-edit?pk=1",
        "_api/entries/import",
        "_files/x/y",
        "users/list",
    ):
        assert operator.get(path).status_code == 404
        assert operator.post(path).status_code in {404, 405}
    assert operator.post("_api/entries/row-action?name=delete&pk=1").status_code == 400
    assert operator.post("_api/entries/action?name=delete&pks=1").status_code == 400


def test_without_a_password_there_is_no_page(world: World, proxy: Proxy) -> None:
    with Operator(proxy) as operator:
        assert [operator.get(path).status_code for path in ("", "login", "static/admin.css")] == [404] * 3
    assert world.sandbox.calls == []


def test_metrics_and_style_sheets_need_no_session(stranger: Operator) -> None:
    assert "gewe_cache_sends" in stranger.get("metrics").text
    assert stranger.get("static/admin.css").headers["cache-control"] == "max-age=3600"
    assert stranger.get("static/../login").status_code == 200


def test_the_page_is_found_without_its_last_slash(stranger: Operator) -> None:
    answer = stranger.get(PREFIX.rstrip("/"))
    assert (answer.status_code, answer.headers["location"]) == (307, PREFIX)


def test_after_the_login_the_page_asked_for_is_shown(stranger: Operator) -> None:
    wanted = stranger.get("entries/list?q=a%26b").headers["location"]
    answer = stranger.post(wanted, {"password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PREFIX}entries/list?q=a%26b")
    assert stranger.get("entries/list").status_code == 200


def test_a_login_leads_nowhere_else(stranger: Operator) -> None:
    for wanted in (
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/gewe/v2/api",
        f"{PREFIX}\\..\\",
        f"{PREFIX}\r\nx: y",
    ):
        answer = stranger.client.post("login", params={"next": wanted}, data={"password": PASSWORD})
        assert answer.headers["location"] == PREFIX
        stranger.client.cookies.clear()


def test_the_cookie_is_for_this_page_alone_and_out_of_reach_of_scripts(stranger: Operator) -> None:
    plain = stranger.try_password(PASSWORD).headers["set-cookie"].split("; ")[1:]
    assert {*plain} == {"HttpOnly", "Max-Age=43200", f"Path={PREFIX}", "SameSite=lax"}
    behind_tls = stranger.try_password(PASSWORD, {"x-forwarded-proto": "https"}).headers["set-cookie"].split("; ")[1:]
    assert {*behind_tls} - {*plain} == {"Secure"}


def test_a_session_ends_with_its_logout_or_its_password(operator: Operator) -> None:
    assert operator.get().status_code == 200
    cookie = operator.client.cookies[COOKIE]
    assert operator.post("logout").headers["location"] == f"{PREFIX}login"
    assert COOKIE not in operator.client.cookies
    going_on = Sessions(PASSWORD).begin()  # by another server with the same password
    for refused in (cookie, Sessions("another password").begin(), going_on[:-1], "x", ""):
        assert operator.get(headers={"cookie": f"{COOKIE}={refused}"}).status_code == 303
    assert operator.get(headers={"cookie": f"{COOKIE}={going_on}"}).status_code == 200


def test_a_login_never_takes_a_session_that_was_there(operator: Operator) -> None:
    before = operator.client.cookies[COOKIE]
    assert operator.log_in().client.cookies[COOKIE] != before


def test_a_wrong_password_is_refused_and_told_to_nobody(
    stranger: Operator, admin: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    answer = stranger.try_password("wrong-guess-1")
    assert answer.status_code == 403
    assert "The password is wrong." in answer.text
    assert COOKIE not in stranger.client.cookies
    assert "from 127.0.0.1" in caplog.text
    assert not {"wrong-guess-1", PASSWORD} & {*re.split(r"\W*\s", caplog.text + answer.text + admin.log.getvalue())}


def test_whoever_guesses_too_often_waits_even_with_the_right_password(stranger: Operator) -> None:
    guesses = [stranger.try_password(f"guess {number}").status_code for number in range(MOST_OF_ONE)]
    assert guesses == [403] * MOST_OF_ONE
    answer = stranger.try_password(PASSWORD)
    assert (answer.status_code, COOKIE in stranger.client.cookies) == (429, False)
    assert 0 < int(answer.headers["retry-after"]) <= 900
    assert "Too many wrong passwords. Wait 15 min" in answer.text


def test_no_other_sites_page_changes_anything(admin: Proxy, operator: Operator) -> None:
    ours: list[dict[str, str]] = [
        {},  # no browser
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": admin.url},
    ]
    others = [
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site", "origin": admin.url},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ]
    for headers in others:
        answers = [operator.try_password(PASSWORD, headers), operator.forget(1, headers)]
        answers.append(operator.post("logout", headers=headers))
        assert [answer.status_code for answer in answers] == [403] * 3
    for headers in ours:
        answers = [operator.try_password(PASSWORD, headers), operator.forget(1, headers)]
        answers.append(operator.post("logout", headers=headers))
        assert [answer.status_code for answer in answers] == [303] * 3


def test_on_loopback_no_strange_name_leads_here(world: World) -> None:
    known = ("127.0.0.1:8720", "localhost:8720", "[::1]:8720", "192.168.1.7", "cache.example", "CACHE.example:443")
    strange = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[")
    proxy = world.open(admin_password=PASSWORD, admin_hosts=frozenset({"cache.example"}))
    with Operator(proxy) as operator:
        assert [operator.get("login", {"host": host}).status_code for host in known] == [200] * len(known)
        for host in strange:
            answer = operator.get("login", {"host": host})
            assert answer.status_code == 421
            assert "--admin-host" in answer.text


def test_every_answer_forbids_what_is_not_ours(operator: Operator, stranger: Operator) -> None:
    answers = [operator.get(path) for path in _PAGES] + [stranger.get(), stranger.get("login"), stranger.post("logout")]
    nonces = set()
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        nonces.add(re.findall(r"script-src 'nonce-([\w-]+)';", policy)[0])
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
    assert len(nonces) == len(answers)


def test_every_script_of_a_page_has_its_nonce_and_nothing_is_inline(operator: Operator) -> None:
    for path in _PAGES:
        answer = operator.get(path)
        (nonce,) = re.findall(r"script-src 'nonce-([\w-]+)';", answer.headers["content-security-policy"])
        tags = re.findall(r"<script[\s>][^>]*", answer.text)
        assert tags
        assert [tag for tag in tags if f'nonce="{nonce}"' not in tag] == []
        assert re.findall(r"<style|<[^>]*\s(?:style|on[a-z]+)=", answer.text) == []
        assert re.findall(r'\s(?:src|href|action)="(?!/_gewe-cache/|\?|#)[^"]*', answer.text) == []


def test_no_address_of_a_page_is_taken_from_the_request(operator: Operator) -> None:
    for path in _PAGES:
        page = operator.get(path, {"host": "localhost:1234", "x-forwarded-proto": "https"}).text
        assert "localhost" not in page
        assert "https:" not in page


def test_long_and_slow_bodies_are_turned_away(world: World) -> None:
    proxy = world.open(admin_password=PASSWORD, limits=LIMITS.__class__(client_seconds=0.3, grace_seconds=20.0))
    with Operator(proxy) as operator:
        assert operator.try_password("x" * 20_000).status_code == 413
    with Wire(proxy) as wire:
        wire.send(b"POST /_gewe-cache/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\npass")
        assert wire.read_until(b"\r\n") == b"HTTP/1.1 413 Request Entity Too Large\r\n"


def test_whoever_leaves_in_the_middle_harms_nobody(admin: Proxy, operator: Operator) -> None:
    session = f"Cookie: {COOKIE}={operator.client.cookies[COOKIE]}\r\n"
    for request in (
        "POST /_gewe-cache/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\npass",
        "GET /_gewe-cache/static/js/vendor/apexcharts.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /_gewe-cache/entries/list HTTP/1.1\r\nHost: localhost\r\n{session}\r\n",
    ):
        with Wire(admin) as wire:
            wire.send(request.encode())
    assert operator.get().status_code == 200
