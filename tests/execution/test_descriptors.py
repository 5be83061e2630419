"""Descriptors 1 and 2 are taken over, read without waiting, and given back; in a process of its own each."""

import json
import subprocess
import sys

DRIVER = """
import faulthandler, json, os, sys
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.execution.descriptors import Descriptors
from ipkernel_ext.execution.output import CaptureStream, OutputBuffer
print("before")
output = OutputBuffer()
descriptors = Descriptors(output)
said = []
def texts():
    descriptors.take()
    return [(piece.name, piece.text) for piece in output.take()]
"""


def run(code):
    """What the code put into ``said``, and what came out of the process itself."""
    end = "\ndescriptors.close()\nprint(json.dumps(said), file=sys.__stderr__)\nsys.__stderr__.flush(); os._exit(0)"
    process = subprocess.run([sys.executable, "-c", DRIVER + code + end], capture_output=True, text=True, timeout=30)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stderr.splitlines()[-1]), process


def test_what_was_printed_before_stays_and_what_nobody_took_goes_on():
    said, process = run("os.write(1, b'late'); os.write(descriptors.log, b'log\\n')")
    assert said == []
    assert process.stdout == "before\nlate"
    assert process.stderr.startswith("log\n")


def test_a_character_may_come_in_two_parts():
    said, _ = run("os.write(1, b'\\xc3'); said += texts(); os.write(1, b'\\xbc'); said += texts()")
    assert said == [["stdout", "ü"]]


def test_the_end_of_a_task_ends_its_characters():
    said, _ = run(
        "output.begin(TaskId('c', 1))\nos.write(2, b'a\\xc3')\ndescriptors.finish()\n"
        "said += [p.text for p in output.end()[0]]\nos.write(2, b'b')\nsaid += [p[1] for p in texts()]"
    )
    assert said == ["a\ufffd", "b"]


def test_a_print_in_a_signal_handler_while_it_is_taken():
    said, _ = run(
        "stream = CaptureStream(output, 'stdout')\n"
        "add = output.add\n"
        "def nested(name, text):\n"
        "    output.add = add\n"
        "    print('handler', file=stream)\n"
        "    add(name, text)\n"
        "output.add = nested\n"
        "os.write(1, b'x\\n')\n"
        "said += texts()"
    )
    assert sorted("".join(text for _, text in said).splitlines()) == ["handler", "x"]


def test_the_end_of_a_task_waits_for_what_another_thread_has_read():
    said, _ = run(
        "import threading\n"
        "reading, wanted, add = threading.Event(), threading.Event(), output.add\n"
        "def slow(name, text):\n"
        "    reading.set()\n"
        "    wanted.wait(10)\n"
        "    add(name, text)\n"
        "class Wanted:\n"
        "    def __enter__(self):\n"
        "        wanted.set()\n"
        "        lock.acquire()\n"
        "    def __exit__(self, *_):\n"
        "        lock.release()\n"
        "output.begin(TaskId('c', 1))\n"
        "output.add = slow\n"
        "os.write(1, b'x')\n"
        "threading.Thread(target=descriptors.take, daemon=True).start()\n"
        "reading.wait(10)\n"
        "lock, descriptors._lock = descriptors._lock, Wanted()\n"
        "descriptors.finish()\n"
        "said += [p.text for p in output.end()[0]]"
    )
    assert said == ["x"]


def test_descriptors_of_ours_are_out_of_the_way():
    said, _ = run("said += [int(n) for n in os.listdir('/proc/self/fd')]")
    assert {0, 1, 2} < set(said)
    assert all(number < 4 or number >= 64 for number in said), "3 is the listing itself"


def test_a_closed_stream_is_no_trouble():
    said, _ = run("sys.__stdout__ = None\ndescriptors._own[0].close()\ndescriptors.finish()\nsaid.append('alive')")
    assert said == ["alive"]
