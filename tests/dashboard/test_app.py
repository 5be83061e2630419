"""What is answered over HTTP, and to whom."""

import re

import pytest
from starlette.testclient import TestClient

from ipkernel_ext.dashboard.access import Door
from ipkernel_ext.dashboard.app import BODY, application
from ipkernel_ext.dashboard.state import Facts
from tests.dashboard.fakes import FakeLooker, at

BEARER = {"authorization": "Bearer secret"}
HTML = {"accept": "text/html,*/*"}


@pytest.fixture
def looker():
    return FakeLooker(at(1.0))


@pytest.fixture
def client(looker):
    app = application(looker, Door("secret"), "Cluster of <ann>")
    with TestClient(app, base_url="http://localhost:80") as client:
        yield client
    assert looker.closed


def test_the_page_is_one_file_and_shows_nothing_from_elsewhere(client):
    answer = client.get("/?token=secret")
    assert answer.status_code == 200
    assert "<title>Cluster of &lt;ann&gt;</title>" in answer.text
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", answer.text)
    assert "/* style */" not in answer.text and "/* script */" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/events", "/metrics", "/logs", "/logs/controller", "/nothing"])
def test_without_the_token_nothing_is_shown(client, path):
    assert client.get(path).status_code == 403
    assert client.get(path, params={"token": "wrong"}).status_code == 403


def test_a_person_who_is_not_let_in_has_a_form(client):
    answer = client.get("/?token=<wrong>", headers=HTML)
    assert answer.status_code == 403
    assert 'name="token"' in answer.text and "<wrong>" not in answer.text


def test_foreign_names_and_origins_are_refused(client, looker):
    body = {"engines": [0]}
    assert client.get("/?token=secret", headers={"host": "evil.example"}).status_code == 403
    assert client.post("/interrupt", json=body, headers={**BEARER, "host": "evil.example"}).status_code == 403
    assert client.post("/interrupt", json=body, headers={**BEARER, "origin": "http://evil.example"}).status_code == 403
    assert client.post("/interrupt?token=secret", json=body).status_code == 403
    assert looker.did == []


def test_buttons_do_what_they_say(client, looker):
    assert client.post("/interrupt", json={"engines": [0, 2]}, headers=BEARER).json() == {"said": "interrupted"}
    assert client.post("/scale", json={"engines": 3}, headers=BEARER).json() == {"said": "scaled"}
    assert looker.did == [("interrupt", [0, 2]), ("scale", 3)]


def test_what_the_cluster_refuses_is_told(client):
    answer = client.post("/restart", json={"engines": [0]}, headers=BEARER)
    assert (answer.status_code, answer.json()) == (409, {"error": "nobody is there to restart them"})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/interrupt", b'{"engines": []}'),
        ("/interrupt", b'{"engines": [true]}'),
        ("/interrupt", b'{"engines": ["0"]}'),
        ("/interrupt", b'{"engines": 1}'),
        ("/interrupt", b"[1]"),
        ("/interrupt", b"x"),
        ("/interrupt", b'{"engines": [' + b"1," * BODY + b"1]}"),
        ("/scale", b'{"engines": -1}'),
        ("/scale", b'{"engines": true}'),
        ("/scale", b'{"engines": 1e9}'),
        ("/scale", b"{}"),
        ("/explode", b'{"engines": [0]}'),
    ],
)
def test_what_makes_no_sense_is_a_bad_request(client, looker, path, body):
    answer = client.post(path, content=body, headers=BEARER)
    assert answer.status_code == 400
    assert "error" in answer.json()
    assert looker.did == []


def test_logs(client):
    assert client.get("/logs", headers=BEARER).json()["said"] == [
        "agent (errors)", "controller", "engine 9", "engine 10",
    ]  # fmt: skip
    assert client.get("/logs/engine 9?lines=5", headers=BEARER).json()["said"] == "5 lines of engine 9"
    assert client.get("/logs/engine 9?lines=9999999", headers=BEARER).json()["said"] == "1000 lines of engine 9"
    assert client.get("/logs/engine 9?lines=x", headers=BEARER).status_code == 400
    assert client.get("/logs/nobody", headers=BEARER).status_code == 404
    assert client.get("/logs/..%2f..%2fetc%2fpasswd", headers=BEARER).status_code == 404


def test_metrics(client, looker):
    answer = client.get("/metrics", headers=BEARER)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "ipkernel_ext_up 1\n" in answer.text
    looker.facts = [Facts(9e9, trouble="away")]
    assert "ipkernel_ext_up 0\n" in client.get("/metrics", headers=BEARER).text
