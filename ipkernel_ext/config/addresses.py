"""Addresses of this host: where a controller is to listen, and what others may call it by."""

from __future__ import annotations

import ipaddress
import socket

from ipkernel_ext.errors import ParallelError

LOOPBACK = "127.0.0.1"


def resolve(ip: str) -> str:
    """The address to listen at, in figures. ``""`` is this host only; ``*`` is everywhere.

    Raises
    ------
    ParallelError
        There is no such name.
    """
    if ip in ("", "*"):
        return "0.0.0.0" if ip else LOOPBACK
    try:
        return str(ipaddress.ip_address(ip.strip("[]")))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(ip, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ParallelError(f"--ip={ip}: there is no such address: {error.strerror}") from None
    return str(found[0][4][0])


def reached_at(ip: str) -> list[str]:
    """Addresses at which others reach what listens at this one, the likeliest first."""
    if not ipaddress.ip_address(ip).is_unspecified:
        return [ip]
    import psutil  # which takes time, and few controllers listen everywhere

    families = {socket.AF_INET: 4, socket.AF_INET6: 6} if ":" in ip else {socket.AF_INET: 4}
    up = psutil.net_if_stats()
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if address.family not in families or name not in up or not up[name].isup:
                continue
            known = ipaddress.ip_address(address.address.partition("%")[0])
            if not known.is_loopback and not known.is_link_local:
                found.append(str(known))
    found.sort(key=lambda address: ":" in address)
    return found or [LOOPBACK]


def url(ip: str, port: int) -> str:
    """As ZeroMQ writes it."""
    return f"tcp://[{ip}]:{port}" if ":" in ip else f"tcp://{ip}:{port}"
