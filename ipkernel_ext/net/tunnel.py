"""A way by ssh to the unix socket of a controller on another host, for a client here.

One ssh process, which lives as long as the client: it looks up where that user's cluster listens, and
forwards a socket of ours to it. ssh says who is there and who may come in, so no keys are needed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from urllib.parse import urlsplit

from ipkernel_ext import openssh
from ipkernel_ext.config.connection import Address
from ipkernel_ext.errors import NotConnected

READY = "ipkernel_ext: ready"
IGNORE_CTRL_C = "trap '' INT; exec \"$@\""
"""It may ask at the terminal, so it is in the group that Ctrl-C goes to."""
PAUSE = 0.2  # seconds between two attempts on a connection that stands
ENDED = 5.0  # seconds that ssh has to end
LOOK_UP = """
file="${{IPYTHONDIR:-$HOME/.ipython}}"/profile_{profile}/security/ipkernel_ext/client.json
if [ ! -r "$file" ]; then
    echo "no cluster of that profile runs there: there is no file $file" >&2; exit 9
fi
socket=$(sed -n 's|.*"url": *"ipc://\\([^"]*\\)".*|\\1|p' "$file")
if [ ! -S "$socket" ]; then
    echo "no cluster runs there any more: $file is of one that was killed" >&2; exit 9
fi
ln -s "$socket" {passage} || exit 9
trap 'rm -f {passage}' EXIT
echo '{ready}'
cat > /dev/null
"""


class Tunnel:
    """One way.

    Parameters
    ----------
    url : str
        ``ssh://USER@HOST:PORT/PROFILE``; all but the host may be left out.
    timeout : float
        Seconds in which the host must answer.

    Raises
    ------
    ValueError
        This is no such address.
    """

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc
        profile = parts.path.strip("/") or "default"
        if parts.scheme != "ssh" or not parts.hostname or host.startswith("-") or "/" in profile:
            raise ValueError(f"{url!r} is no address: write ssh://USER@HOST, or ssh://USER@HOST/PROFILE")
        self._url = url
        self._host = host
        self._options = [] if port is None else ["-p", str(port)]
        self._profile = profile
        self._timeout = timeout
        self._ssh: subprocess.Popen[str] | None = None
        self._directory = ""
        self._next = 0.0
        self._lock = threading.Lock()
        self._closed = False

    def locate(self) -> Address:
        """Where the controller is to be found here; makes the way again where it was lost.

        Raises
        ------
        NotConnected
            There is no way; in ssh's words or those of the host.
        """
        with self._lock:
            if self._closed:
                raise NotConnected("this client is closed")
            if self._ssh is None or self._ssh.poll() is not None:
                self._end()
                self._open()
            elif time.monotonic() < self._next:
                raise NotConnected(f"the controller at {self._url} does not answer")
            self._next = time.monotonic() + PAUSE
            return Address((f"ipc://{self._directory}/controller.sock",), None, self._url)

    def _open(self) -> None:
        first = not self._next
        self._directory = tempfile.mkdtemp(prefix="ipkernel_ext-ssh-")
        passage = openssh.passage()
        remote = LOOK_UP.format(profile=shlex.quote(self._profile), passage=passage, ready=READY)
        options = [*self._options, "-L", f"{self._directory}/controller.sock:{passage}"]
        command = openssh.command(self._host, remote, options, timeout=self._timeout, asks=first)
        try:
            self._ssh = ssh = subprocess.Popen(
                ["sh", "-c", IGNORE_CTRL_C, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            self._end()
            raise NotConnected(f"ssh cannot be started: {error.strerror}") from None
        assert ssh.stdout is not None and ssh.stderr is not None
        for line in ssh.stdout:
            if line.strip() == READY:
                threading.Thread(target=_drain, args=[ssh], daemon=True).start()
                return
        said = ssh.stderr.read()
        code = ssh.wait()
        self._end()
        raise NotConnected(openssh.failure(self._host, code, said))

    def _end(self) -> None:
        ssh, self._ssh = self._ssh, None
        if ssh is not None:
            assert ssh.stdin is not None
            with contextlib.suppress(OSError):
                ssh.stdin.close()  # the command there ends, and ssh with it
            try:
                ssh.wait(ENDED)
            except subprocess.TimeoutExpired:
                ssh.kill()
                ssh.wait()
            for stream in (ssh.stdout, ssh.stderr):
                assert stream is not None
                with contextlib.suppress(OSError, ValueError):
                    stream.close()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""

    def close(self) -> None:
        """Give the way up."""
        with self._lock:
            self._closed = True
            self._end()


def _drain(ssh: subprocess.Popen[str]) -> None:
    """What ssh still says is nobody's, but must not fill its pipe."""
    assert ssh.stderr is not None
    with contextlib.suppress(OSError, ValueError):
        while os.read(ssh.stderr.fileno(), 65536):
            pass
