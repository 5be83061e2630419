"""``ipcluster doctor --from HOST``: what another host reaches of this one, found out there by ssh."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from ipkernel_ext import openssh
from ipkernel_ext.doctor import Finding

ANSWER = 30.0  # seconds that the host has
CONNECT = 3.0  # seconds in which an address must accept a connection
MARK = "ipkernel_ext: "
ASK = f"""
import json, socket, sys
answers = {{}}
for url in sys.argv[1:]:
    host, _, port = url[len("tcp://"):].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), {CONNECT}).close()
        answers[url] = ""
    except socket.timeout:
        answers[url] = "nothing answers within {CONNECT:g} s: a firewall, or no way there"
    except OSError as error:
        answers[url] = error.strerror or str(error)
print({MARK!r} + json.dumps([".".join(map(str, sys.version_info[:3])), list(sys.version_info[:2]) >= [3, 11], answers]))
"""


def ask(host: str, urls: Sequence[str], python: str, options: Sequence[str]) -> Iterator[Finding]:
    """Findings about a way from a host to these addresses.

    Parameters
    ----------
    python : str
        What Python is called there.
    options
        More of ssh's.
    """
    remote = f"exec {shlex.quote(python)} -c {shlex.quote(ASK)} {shlex.join(urls)}"
    try:
        done = subprocess.run(
            openssh.command(host, remote, options, asks=True), capture_output=True, text=True, timeout=ANSWER
        )
    except FileNotFoundError:
        yield Finding("ssh", False, "there is no command ssh here", "install the OpenSSH client")
        return
    except subprocess.TimeoutExpired:
        yield Finding("ssh", False, f"{host} does not answer within {ANSWER:g} s")
        return
    said = next((line for line in done.stdout.splitlines() if line.startswith(MARK)), None)
    if said is None:
        yield Finding("ssh", False, openssh.failure(host, done.returncode, done.stderr), "engines=ssh needs this way")
        return
    version, enough, answers = json.loads(said.removeprefix(MARK))
    yield from judge(host, python, version, enough, answers)


def judge(host: str, python: str, version: str, enough: bool, answers: Mapping[str, str]) -> Iterator[Finding]:
    """What follows from what was found there.

    Parameters
    ----------
    answers
        By address: why it cannot be reached, "" if it can.
    """
    yield Finding("ssh", True, f"{host} can be reached from here")
    advice = "" if enough else "engines need 3.11 or newer; ParallelSSH.python names another one"
    yield Finding("Python there", enough, f"{python} on {host} is {version}", advice)
    if not answers:
        text = "the controller has no port, and engines over ssh need none"
        yield Finding("port", True, text, f"--ip opens one, for engines that {host} starts by itself")
    for url, why in answers.items():
        if not why:
            yield Finding("port", True, f"{host} reaches {url}")
            continue
        others = [other for other, problem in answers.items() if not problem]
        if others:
            yield Finding("port", True, f"{host} does not reach {url}: {why}", f"it uses {others[0]}")
        else:
            advice = "open the port, name the right address by --location, or start engines there by ssh"
            yield Finding("port", False, f"{host} does not reach {url}: {why}", advice)
