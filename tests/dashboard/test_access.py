"""Who is let in."""

import pytest

from ipkernel_ext.dashboard.access import WITHOUT_TOKEN, Door, name_of, names

DOOR = Door("secret", frozenset({"box"}))
BEARER = {"authorization": "Bearer secret"}


@pytest.mark.parametrize("host", ["127.0.0.1:8", "localhost", "LOCALHOST:8", "[::1]:8", "box:1"])
def test_by_a_name_of_ours_and_with_the_token(host):
    assert DOOR.refusal("GET", {"host": host}, "secret") is None
    assert DOOR.refusal("POST", {"host": host, **BEARER}, None) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "[::", "box.x"]
)
def test_another_name_is_refused_whatever_it_has(host):
    assert "--allow-host" in DOOR.refusal("GET", {"host": host, **BEARER}, "secret")
    assert "--allow-host" in DOOR.refusal("GET", BEARER, "secret")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9", "http://127.0.0.1:8", ""])
def test_another_origin_is_refused(origin):
    assert "are refused" in DOOR.refusal("POST", {"host": "localhost:8", "origin": origin, **BEARER}, None)


def test_the_page_itself_is_an_origin():
    assert DOOR.refusal("POST", {"host": "localhost:8", "origin": "http://localhost:8", **BEARER}, None) is None


@pytest.mark.parametrize("token", [None, "", "secre", "secret ", "Secret", "s\u00e9cret"])
def test_another_token_is_refused(token):
    assert DOOR.refusal("GET", {"host": "localhost"}, token) == WITHOUT_TOKEN
    assert DOOR.refusal("GET", {"host": "localhost", "authorization": f"Bearer x{token}"}, "secret") == WITHOUT_TOKEN


def test_what_changes_something_needs_the_header():
    assert DOOR.refusal("POST", {"host": "localhost"}, "secret") == WITHOUT_TOKEN


def test_names_of_a_server():
    assert names("127.0.0.1", ["Box"], "me") == {"127.0.0.1", "box"}
    assert names("0.0.0.0", [], "Me") == {"me"}
    for wrong in ("http://box", "box:80", ""):
        with pytest.raises(ValueError, match="is no name of a host"):
            names("127.0.0.1", [wrong], "me")


def test_the_name_in_a_host_header():
    assert [name_of(host) for host in ("A.b:1", "[::1]:2", "")] == ["a.b", "::1", ""]
