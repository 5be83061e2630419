"""A disk with room for a cluster that then is full."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest


@pytest.fixture
def on_a_small_disk(tmp_path):
    """Run a script whose temporary directory is a disk of its own, of 6 MB; what it prints."""
    if os.getuid() or shutil.which("unshare") is None:
        pytest.skip("needs to be root, and unshare(1), to mount a disk")
    disk = tmp_path / "d"
    disk.mkdir()

    def run(script):
        mount = f"mount -t tmpfs -o size=6m,mode=1777 tmpfs {disk} && exec {sys.executable} -"
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mount],
            input=textwrap.dedent(script),
            capture_output=True,
            text=True,
            timeout=50,
            env=dict(os.environ, TMPDIR=str(disk)),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.mark.fault("the disk of a cluster's files is full")
def test_a_full_disk_stops_nobody(on_a_small_disk):
    said = on_a_small_disk("""
        import os, tempfile
        from ipkernel_ext import launch
        from ipkernel_ext.errors import EngineLost
        with launch(n=2) as rc:
            rc.push({"kept": 1})
            with open(tempfile.gettempdir() + "/filler", "wb", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(4096))
                except OSError as error:
                    print(error.strerror)
                print(len(rc.execute("print('x' * 1_000_000)").stdout[0]))
                print(rc.map(abs, range(-2000, 0)) == list(range(2000, 0, -1)))
                print(rc.submit(bytes, 10**6).result(20) == bytes(10**6))
                os.kill(rc.status()["controller"]["pid"], 9)
                print(rc["kept"])
                os.kill(rc.engines[1].pid, 9)
                try:
                    rc[1].execute("1")
                except EngineLost as error:
                    print(error.signal)
                rc.wait_for_engines(2, 20)
                try:
                    rc[1].keys()
                except EngineLost as error:
                    assert error.restarted
                print(rc[1].keys(), rc[0]["kept"])
    """)
    assert said == ["No space left on device", "1000001", "True", "True", "[1, 1]", "9", "[] 1"]
