"""The page: one file made of three, and the policy under which a browser shows it."""

from __future__ import annotations

import base64
import hashlib
import html
from importlib.resources import files

FRAMES = "'self' http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:* vscode-webview:"
"""Pages that may embed ours: notebooks of this machine, or of the server it is reached through."""


def build(title: str) -> tuple[str, str]:
    """The page and its Content-Security-Policy: nothing but its own style and script, and no other server."""
    style, script, body = (_read(f"page.{kind}") for kind in ("css", "js", "html"))
    page = (
        body.replace("<!-- title -->", html.escape(title)).replace("/* style */", style).replace("/* script */", script)
    )
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; connect-src 'self'; "
        f"img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors {FRAMES}"
    )
    return page, policy


def refused(why: str) -> str:
    """A page for who is not let in."""
    return _read("refused.html").replace("<!-- why -->", html.escape(why))


def _read(name: str) -> str:
    return (files(__package__) / "static" / name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
