"""Two hosts on this one: each with its own network, name, processes and, for the second, its own files.

All of it is inside namespaces that end with their first process; nothing outside is changed.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

import psutil
import pytest

CONTROLLER, OTHER = "10.77.0.1", "10.77.0.2"
TOOLS = ("ip", "unshare", "nsenter", "mount")


def why_not():
    """Why there can be no hosts here; None where there can."""
    if not sys.platform.startswith("linux") or os.getuid():
        return "needs to be root on Linux, to make network namespaces"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}; tools/setup-debian installs them"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return tried.stderr.decode().strip() if tried.returncode else None


class Host:
    """A host: the namespaces of one process."""

    def __init__(self, name, set_up):
        self.name = name
        self._processes = []
        script = f"hostname {name} && ip link set lo up && {set_up} && echo ready && exec sleep infinity"
        options = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._unshare = subprocess.Popen(
            ["unshare", *options, "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._unshare.stdout.readline() == "ready\n"
        (self._first,) = psutil.Process(self._unshare.pid).children()

    def inside(self, command):
        """A command that runs another one there."""
        return ["nsenter", f"--target={self._first.pid}", "--net", "--uts", "--mount", "--pid", *command]

    def connect(self, other, there="eth0"):
        """Lay a cable from ``eth0`` here to a device of that name there."""
        inside = ["nsenter", f"--target={self._first.pid}", "--net"]
        cable = ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", there, "netns", str(other._first.pid)]
        subprocess.run([*inside, *cable], check=True)

    def run(self, *command, **options):
        """Run something there to its end; its output."""
        done = subprocess.run(self.inside(command), capture_output=True, text=True, timeout=60, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, program, *arguments):
        """Start one of our commands there."""
        return self.background(sys.executable, "-m", "ipkernel_ext.commands", program, *arguments)

    def background(self, *command):
        """Start something there that ends with it."""
        process = subprocess.Popen(
            self.inside(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    @staticmethod
    def terminate(process):
        """Have what was started end as a user would, and wait for it; nsenter does not pass signals on."""
        for command in psutil.Process(process.pid).children():
            command.terminate()
        process.wait(20)

    def processes(self):
        """Command lines of what runs there, what the host itself needs apart."""
        lines = self.run("ps", "-eo", "args=").splitlines()
        its_own = "sleep infinity", "ps ", "sshd", "/usr/sbin/sshd"
        return [line for line in lines if not line.startswith(its_own) and not line.endswith("<defunct>")]

    def python(self, script):
        """What a script prints there."""
        return self.run(sys.executable, "-", input=script)

    def receive(self, path, content):
        """A file is copied there, for this user only."""
        self.run("sh", "-c", f"umask 077 && mkdir -p {os.path.dirname(path)} && cat > {path}", input=content)

    def end(self):
        """End its first process, and with it all others and the namespaces."""
        with contextlib.suppress(psutil.NoSuchProcess):  # a test has ended it
            self._first.kill()
        self._unshare.wait(10)
        self._unshare.stdout.close()
        for process in self._processes:
            process.wait(10)
            process.stdout.close()
            process.stderr.close()


def address(number):
    """Of a host of a network."""
    return f"10.78.0.{number + 1}"


@contextlib.contextmanager
def network(count, rate):
    """So many hosts, each with a cable of so many Mbit/s, both ways, to a switch.

    The first shares the files of this process; the others have temporary files and shared memory of their own.
    """
    with contextlib.ExitStack() as stack:
        switch = Host("switch", "ip link add br0 type bridge && ip link set br0 up")
        stack.callback(switch.end)
        limit = ["root", "tbf", "rate", f"{rate}mbit", "burst", "256kb", "latency", "100ms"]
        mount = "mount -t tmpfs -o mode=1777 tmpfs"
        found = []
        for number in range(count):
            host = Host(f"b{number}", f"{mount} {tempfile.gettempdir()} && {mount} /dev/shm" if number else "true")
            stack.callback(host.end)
            found.append(host)
            host.connect(switch, f"to{number}")
            switch.run("ip", "link", "set", f"to{number}", "master", "br0", "up")
            switch.run("tc", "qdisc", "add", "dev", f"to{number}", *limit)
            host.run("tc", "qdisc", "add", "dev", "eth0", *limit)
            host.run("ip", "address", "add", f"{address(number)}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
        yield found


@pytest.fixture
def hosts():
    """``h1`` at 10.77.0.1, which shares the files of the test, and ``h2`` at 10.77.0.2, which does not."""
    if why := why_not():
        pytest.skip(why)
    temporary = tempfile.gettempdir()
    first = Host("h1", "true")
    try:
        mount = "mount -t tmpfs -o mode=1777,size=512m tmpfs"
        second = Host("h2", f"{mount} {temporary} && {mount} /dev/shm")
        try:
            first.connect(second)
            for host, address in ((first, CONTROLLER), (second, OTHER)):
                host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
                host.run("ip", "link", "set", "eth0", "up")
            yield first, second
        finally:
            second.end()
    finally:
        first.end()
