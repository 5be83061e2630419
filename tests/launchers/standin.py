"""Stands in for batch systems: runs members of a job at once, and answers as each system's commands do.

``python standin.py serve`` is the system itself, whose children all members are; ``python standin.py COMMAND
ARGUMENTS`` speaks to it. What it knows is in the directory that STANDIN names. It knows only as much of their
options as our templates use.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

HOME = Path(os.environ["STANDIN"])
INDEX = {"qsub-pbs": "PBS_ARRAY_INDEX", "bsub": "LSB_JOBINDEX", "qsub-sge": "SGE_TASK_ID"}


def serve():
    """Start what is asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(HOME / "socket"))
        server.listen()
        print("ready", flush=True)
        while True:
            with server.accept()[0] as connection, connection.makefile("rw") as file:
                words, environment, directory = json.loads(file.readline())
                process = subprocess.Popen(
                    words,
                    env=environment,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                file.write(f"{process.pid}\n")


def start(words, environment):
    """Have the system start a member; its pid."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(HOME / "socket"))
        with connection.makefile("rw") as file:
            file.write(json.dumps([words, environment, os.getcwd()]) + "\n")
            file.flush()
            return int(file.readline())


def submit(command, text, path):
    """Start every member; the first lines may say how many there are."""
    if "queue-is-full" in text:
        sys.exit("the queue is full, as the administrator said")
    if command == "condor_submit":
        arguments = re.search(r'^arguments = "(.*)"$', text, re.MULTILINE)[1].replace('""', '"')
        words = shlex.split(arguments.replace("''", "'\"'\"'"))
        count = int(re.search(r"^queue (\d+)$", text, re.MULTILINE)[1])
        members = {i: (["/bin/sh", *[word.replace("$(ProcId)", str(i)) for word in words]], {}) for i in range(count)}
    else:
        found = re.search(r"^#\S+ (?:-[Jt] )\"?[^\n]*?(\d+)-(\d+)", text, re.MULTILINE)
        first, last = (int(found[1]), int(found[2])) if found else (0, 0)
        name = INDEX[command]
        members = {i: (["/bin/sh", path], {name: str(i)} if found else {}) for i in range(first, last + 1)}
    pids = {}
    for index, (words, more) in members.items():
        pids[index] = start(words, {**os.environ, **more})
    number = len(list(HOME.glob("*.json"))) + 1
    (HOME / f"{number}.json").write_text(json.dumps(pids))
    return number


def states(number):
    """Whether each member runs."""
    try:
        pids = json.loads((HOME / f"{number}.json").read_text())
    except OSError:
        return {}
    return {int(index): Path(f"/proc/{pid}/exe").exists() for index, pid in pids.items()}


def cancel(number, indexes=None):
    """End members."""
    pids = json.loads((HOME / f"{number}.json").read_text())
    for index, pid in pids.items():
        if indexes is None or int(index) in indexes:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass


def main():
    """One command."""
    command, *arguments = sys.argv[1:]
    if command == "serve":
        serve()
    last = arguments[-1] if arguments else ""
    number = (re.findall(r"\d+", last) or ["0"])[0]
    if command in ("qsub-pbs", "qsub-sge", "condor_submit"):
        job = submit(command, Path(last).read_text(), last)
        array = "-J" in Path(last).read_text()
        print({"qsub-pbs": f"{job}{'[]' if array else ''}.server", "qsub-sge": f"{job}.1-9:1"}.get(command, f"{job}.0"))
    elif command == "bsub":
        text = sys.stdin.read()
        script = HOME / "script"
        script.write_text(text)
        print(f"Job <{submit(command, text, str(script))}> is submitted to default queue <normal>.")
    elif command == "qstat-pbs":
        jobs = {f"{number}[{i}].server": {"job_state": "R" if up else "F"} for i, up in states(number).items()}
        print(json.dumps({"Jobs": {f"{number}[].server": {"job_state": "B"}, **jobs}}))
    elif command == "bjobs":
        records = [{"JOBINDEX": str(i), "STAT": "RUN" if up else "DONE"} for i, up in states(number).items()]
        print(json.dumps({"RECORDS": records}))
    elif command == "qstat-sge":
        jobs = [
            f"<job_list><JB_job_number>{path.stem}</JB_job_number><state>r</state><tasks>{i}</tasks></job_list>"
            for path in HOME.glob("*.json")
            for i, up in states(path.stem).items()
            if up
        ]
        print(f"<job_info><queue_info>{''.join(jobs)}</queue_info><job_info></job_info></job_info>")
    elif command in ("condor_q", "condor_history"):
        wanted = command == "condor_q"
        up = [{"ProcId": i, "JobStatus": 2 if up else 4} for i, up in states(number).items() if up is wanted]
        print(json.dumps(up) if up else "")
    elif command == "qdel-sge":
        indexes = set()
        if "-t" in arguments:
            first, _, end = arguments[-1].partition("-")
            indexes = set(range(int(first), int(end or first) + 1))
        cancel(arguments[0], indexes or None)
    else:
        for name in arguments:
            found = re.fullmatch(r"(\d+)(?:\.(?!server)|\[)?(\d+)?.*", name)
            cancel(found[1], {int(found[2])} if found[2] else None)


main()
