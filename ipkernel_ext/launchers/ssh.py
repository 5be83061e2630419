"""Engines on other hosts, through the OpenSSH client.

For each host, and each time that more engines are wanted there, there is a *line*: one ssh process
with a thread here that talks to ``far.py`` at its other end. The same connection carries a forwarded
unix socket by which everything there reaches the controller. When a line is cut it is made again;
the engines live on meanwhile, and their outpost ends them if that takes too long.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipkernel_ext import openssh
from ipkernel_ext.launchers import far, shipping
from ipkernel_ext.launchers.hosts import Host, hosts_of, shares
from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder, State, ranges

ANSWER = 120.0  # seconds that a host has for one step, unpacking included
BEAT = 5.0  # seconds between two signs of life
AGAIN = 1.0, 15.0  # seconds, first and longest, until a line that was cut is made again
STOP = 6.0  # seconds that hosts have to end their engines, when all are ended at once
LOADER = """
import sys,json
v=sys.version_info
if v<(3,11):
    print('MARK'+json.dumps({'python':'.'.join(map(str,v[:3]))}))
else:
    f=sys.stdin.buffer.raw
    n=int(f.readline())
    b=b''
    while len(b)<n: b+=f.read(n-len(b))
    exec(compile(b,'<ipkernel_ext>','exec'),{'__name__':'__main__'})
""".replace("MARK", far.MARK)
"""Takes no byte more than is for it, and says which Python is too old, in the language of that too."""


class Plan:
    """How one host is reached, and what runs there."""

    def __init__(self, host: Host, settings: Mapping[str, Any], order: LaunchOrder) -> None:
        self.host = host
        self.python = settings["pythons"].get(host.name, settings["python"])
        self.script = settings["scripts"].get(host.name, settings["script"])
        self.tunnel = bool(settings["tunnel"])
        self.timeout = float(settings["connect_timeout"])
        self.options = list(settings["options"])
        self.order = order

    def command(self, passage: str) -> list[str]:
        """Of ssh."""
        source = f". {shlex.quote(self.script)} && " if self.script else ""
        remote = f"{source}{shlex.quote(self.python)} -c {shlex.quote(LOADER)}"
        forward = []
        if self.tunnel:
            forward = ["-R", f"{passage}:{self.order.socket}"]
            remote += f"; code=$?; rm -f {passage}; exit $code"  # sshd leaves it
        return openssh.command(self.host.name, remote, [*self.options, *forward], timeout=self.timeout)

    def orders(self) -> dict[str, Any]:
        """Of the outpost there."""
        setup = {**self.order.outpost["setup"], "path": None, "pythonpath": None, "away": not self.tunnel}
        return {**self.order.outpost, "setup": setup}

    def connection(self) -> dict[str, Any] | None:
        """The connection file for engines there; None: through the line."""
        if self.tunnel:
            return None
        found: dict[str, Any] = json.loads(Path(self.order.connection).read_text())
        return {**found, "host": f"{found['host']} (elsewhere)"}


class Line:
    """The line to some engines of one host.

    Attributes
    ----------
    numbers : list of int
        The engine ids that they ask for.
    state : str
        "starting", "up", "away" (cut, and being made again) or "ended".
    why : str
        Why it is away, or has ended.
    """

    def __init__(self, plan: Plan, numbers: Sequence[int]) -> None:
        self.plan = plan
        self.numbers = list(numbers)
        self.state = "starting"
        self.why = ""
        self._place = uuid.uuid4().hex[:16]
        self._stopping = threading.Event()
        self._ssh: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # of what is written to ssh
        self._thread = threading.Thread(target=self._live, name=f"ssh {plan.host.name}", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        pause = AGAIN[0]
        while self.state != "ended":
            try:
                self._connect()
            except LaunchError as error:
                self.why = str(error)
                first = self.state == "starting"
                pause = AGAIN[0] if self.state == "up" else min(2 * pause, AGAIN[1])
                self.state = "ended" if first or self._stopping.is_set() else "away"
            if self.state == "away" and self._stopping.wait(pause):
                self.state = "ended"

    def _connect(self) -> None:
        """One ssh process, from its start to its end."""
        passage = openssh.passage()
        try:
            ssh = subprocess.Popen(
                self.plan.command(passage),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise LaunchError("there is no command ssh here: install the OpenSSH client") from None
        self._ssh = ssh
        assert ssh.stdin is not None and ssh.stdout is not None and ssh.stderr is not None
        errors: list[bytes] = []
        reader = threading.Thread(target=errors.extend, args=[ssh.stderr], daemon=True)
        reader.start()
        try:
            with self._beating(ssh):
                said = self._talk(ssh, passage)
        finally:
            with self._lock, contextlib.suppress(OSError):
                ssh.stdin.close()
            try:
                ssh.wait(2.0)
            except subprocess.TimeoutExpired:
                ssh.kill()
                ssh.wait()
            ssh.stdout.close()
            reader.join(1.0)
        if said is None:
            text = b"".join(errors).decode(errors="replace")
            raise LaunchError(openssh.failure(self.plan.host.name, ssh.returncode, text))
        if "error" in said:
            raise LaunchError(f"{self.plan.host.name}: {said['error']}")
        self.state = "ended"
        if said.get("ended"):
            self.why = f"{self.plan.host.name}: the engines there have ended\n{said['ended']}"

    def _talk(self, ssh: subprocess.Popen[bytes], passage: str) -> dict[str, Any] | None:
        """Have an outpost started there, or find it again, and hear how it ends. None: ssh ended before."""
        plan = self.plan
        script = Path(far.__file__).read_bytes()
        self._write(ssh, f"{len(script)}\n".encode() + script)
        self._say(ssh, place=self._place, requirements=shipping.requirements())
        there = self._hear(ssh)
        if there is None or "error" in there:
            return there
        if "python" in there:
            raise LaunchError(
                f"{plan.host.name}: {plan.python} there is Python {there['python']}, and 3.11 or newer is needed: "
                "name another one in ParallelSSH.python"
            )
        if self.state == "away" and not there["running"]:
            return {"ended": "they were without a controller for too long"}
        for archive in [] if there["running"] else self._archives(there):
            self._say(ssh, archive=archive.name)
            answer = self._hear(ssh)
            if answer is not None and not answer.get("have", True):
                self._say(ssh, size=len(archive.content))
                self._write(ssh, archive.content)
                answer = self._hear(ssh)
            if answer is None or "error" in answer:
                return answer
        orders = {"orders": plan.orders(), "numbers": ranges(self.numbers), "connection": plan.connection()}
        self._say(ssh, forwarded=passage if plan.tunnel else "", **orders)
        answer = self._hear(ssh)
        if answer is None or "error" in answer:
            return answer
        self.state, self.why = "up", ""
        if self._stopping.is_set():
            self._say(ssh, stop=True)
        return self._hear(ssh)

    def _archives(self, there: dict[str, Any]) -> list[shipping.Archive]:
        kind = shipping.Kind(*there["kind"])
        missing = frozenset(there["missing"])
        return [shipping.own(), *([shipping.dependencies(missing, kind)] if missing else [])]

    def _say(self, ssh: subprocess.Popen[bytes], **order: Any) -> None:
        self._write(ssh, json.dumps(order).encode() + b"\n")

    def _write(self, ssh: subprocess.Popen[bytes], data: bytes) -> None:
        assert ssh.stdin is not None
        with self._lock, contextlib.suppress(OSError, ValueError):
            ssh.stdin.write(data)
            ssh.stdin.flush()

    def _hear(self, ssh: subprocess.Popen[bytes]) -> dict[str, Any] | None:
        """The next line that is meant for us; None at the end."""
        assert ssh.stdout is not None
        for line in iter(ssh.stdout.readline, b""):
            text = line.decode(errors="replace")
            if text.startswith(far.MARK):
                said: dict[str, Any] = json.loads(text.removeprefix(far.MARK))
                return said
        ssh.wait()
        return None

    @contextlib.contextmanager
    def _beating(self, ssh: subprocess.Popen[bytes]) -> Any:
        """Give signs of life."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                self._write(ssh, b"\n")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def stop(self) -> None:
        """Begin to end it."""
        self._stopping.set()
        ssh = self._ssh
        if ssh is not None and self.state == "up":
            self._say(ssh, stop=True)

    def wait(self, timeout: float) -> None:  # seconds
        """Wait for its end; then it is left to itself."""
        self._thread.join(timeout)
        if self._thread.is_alive() and self._ssh is not None:
            self._ssh.kill()


class SSH:
    """All lines."""

    fixed = ""
    pause = 0.2

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._plans = list(plans)
        self._lines: list[Line] = []
        self._told: set[Line] = set()

    def start(self, numbers: Sequence[int]) -> None:
        """Have these engines started: each host first gets what it lacks of those that it is to have."""
        hosts = [plan.host for plan in self._plans]
        have = [sum(len(line.numbers) for line in self._lines if line.plan is plan) for plan in self._plans]
        ahead = list(numbers)
        for plan, count in zip(self._plans, shares(hosts, have, len(ahead)), strict=True):
            if count:
                self._lines.append(Line(plan, ahead[:count]))
                ahead = ahead[count:]

    def state(self) -> State:
        """How the lines are."""
        over = [line for line in self._lines if line.state == "ended"]
        self._lines = [line for line in self._lines if line not in over]
        ended = "\n".join(line.why for line in over if line.why)
        away = [f"the line to {line.plan.host.name} is cut: {line.why}" for line in self._lines if line.state == "away"]
        return State(sum(len(line.numbers) for line in self._lines), 0, "; ".join(away), ended)

    def keep(self, ids: Sequence[int], pending: int) -> None:
        """Note who stays; nobody puts engines off here."""
        for line in self._lines:
            line.numbers = [number for number in line.numbers if number in ids]

    def stop(self) -> None:
        """End all engines everywhere. What cannot be reached ends itself."""
        for line in self._lines:
            line.stop()
        until = time.monotonic() + STOP
        for line in self._lines:
            line.wait(max(0.0, until - time.monotonic()))


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    hosts = hosts_of(settings["hosts"])
    if not hosts:
        raise ValueError("which hosts? --hosts a:4,b:8, or c.ParallelSSH.hosts in the profile's ipcluster_config.py")
    names = {host.name for host in hosts}
    for option in ("pythons", "scripts"):
        for name in settings[option]:
            if name not in names:
                raise ValueError(
                    f"ParallelSSH.{option} has {name!r}, which is none of the hosts {', '.join(sorted(names))}"
                )
    return SSH([Plan(host, settings, order) for host in hosts])
