"""Addresses of this host."""

from __future__ import annotations

import ipaddress

import pytest

from ipkernel_ext.config import addresses
from ipkernel_ext.errors import ParallelError


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", "127.0.0.1"),
        ("*", "0.0.0.0"),
        ("0.0.0.0", "0.0.0.0"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::", "::"),
    ],
)
def test_what_is_said_and_what_is_meant(said: str, meant: str) -> None:
    assert addresses.resolve(said) == meant


def test_a_name_becomes_its_address() -> None:
    assert ipaddress.ip_address(addresses.resolve("localhost")).is_loopback
    with pytest.raises(ParallelError, match="no.such.name.invalid"):
        addresses.resolve("no.such.name.invalid")


def test_one_address_is_reached_at_itself_and_everywhere_at_all_that_others_can_reach() -> None:
    assert addresses.reached_at("10.0.0.1") == ["10.0.0.1"]
    own = addresses.reached_at("0.0.0.0")
    assert own
    assert own == ["127.0.0.1"] or not any(ipaddress.ip_address(address).is_loopback for address in own)


def test_urls() -> None:
    assert addresses.url("10.0.0.1", 5) == "tcp://10.0.0.1:5"
    assert addresses.url("::1", 5) == "tcp://[::1]:5"
