"""Actions of ``ipcluster`` that look after profiles and files, and start nothing: ask, and say what came of it.

Each takes the options that ``commands`` has read, and gives the exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ipkernel_ext import clean as leftovers
from ipkernel_ext.config import connection, keys, profiles, templates
from ipkernel_ext.config import logs as log_files
from ipkernel_ext.config.place import Place
from ipkernel_ext.doctor import examine
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.launcher import find, process_of
from ipkernel_ext.nursery.controller import ROTATE

ROTATION = 10.0  # seconds that a controller may take over new keys


def logs(options: argparse.Namespace) -> int:
    """Show what controller, agent and engines wrote."""
    place = Place.of_profile(options.profile)

    there = log_files.cluster_logs(place.logs)
    if not there:
        raise NotConnected(
            f"there are no logs in {place.logs}; `ipcluster start{profiles.option(place.profile)}` makes some"
        )
    wanted = log_files.choose(there, options.engine)

    def now() -> dict[str, Path]:
        return wanted if options.engine else log_files.cluster_logs(place.logs)

    pid = process_of(place) if options.follow else None
    running = None if pid is None else os.pidfd_open(pid)
    try:
        for name, line in log_files.follow(now, options.lines, running, sys.stdout.fileno()):
            print(line if options.engine else f"{name} | {line}", flush=options.follow)
    except KeyboardInterrupt:
        return 0
    if options.follow:
        print("the cluster has ended" if running else "no cluster runs", file=sys.stderr)
    return 0


def clean(options: argparse.Namespace) -> int:
    """Remove what dead clusters left behind."""

    found = leftovers.look()
    for process in found.orphans:
        what = f"{process.program} (pid {process.pid}), whose cluster is gone"
        if not options.kill:
            print(f"still runs: {what}; `ipcluster clean --kill` ends it")
        elif options.dry_run:
            print(f"would end {what}")
        else:
            leftovers.end(process)
            print(f"ended {what}")
    if found.orphans and options.kill and not options.dry_run:
        found = leftovers.look()
    for path in found.stale:
        if options.dry_run:
            print(f"would remove {path}")
        else:
            print(f"removed {path}" if leftovers.remove(path) else f"left {path}: a cluster starts there")
    for path, reason in found.left:
        print(f"left {path}: {reason}")
    if not any(found):
        print("nothing to clean")
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Look for the usual causes of trouble; 1 if there is one."""
    findings = []
    for finding in examine(options.profile):
        findings.append(finding)
        if not options.json:
            print(finding, flush=True)
    if options.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    return int(not all(finding.ok for finding in findings))


def rotate_keys(options: argparse.Namespace) -> int:
    """Give the profile's cluster new keys, and say who has to do with it."""
    place = Place.of_profile(options.profile)
    name = repr(place.profile)
    pid = place.controller_pid()
    if pid is None:
        if place.keys.exists():
            place.keys.unlink()
            print(f"the keys that a killed cluster of profile {name} left are gone; its next start makes new ones")
        else:
            print(f"no cluster of profile {name} runs, and it has left no keys: each start makes new ones")
        return 0
    earlier = keys.load(place.keys)
    if earlier is None:
        print(f"the cluster of profile {name} has no TCP port and so no keys")
        return 0
    before = connection.read(place.connection("client"))
    os.kill(pid, ROTATE)
    given_up = time.monotonic() + ROTATION
    while (found := connection.read(place.connection("client"))).keys == before.keys:
        if time.monotonic() > given_up:
            raise NotConnected(f"the controller (pid {pid}) does not answer; its old keys are still good")
        time.sleep(0.02)
    print(f"the cluster of profile {name} has new keys, and the old ones let nobody in any more")
    print("  on this host all goes on; engines of other hosts keep what they have, and come back once they have")
    print(f"  the new {place.connection('engine')} where the old one was, clients there the new")
    print(f"  {place.connection('client')}; it listens at {' and '.join(found.tcp)}")
    return 0


def invite(options: argparse.Namespace) -> int:
    """Write a connection file by which others come in over TCP, and may do less than the owner."""
    place = Place.of_profile(options.profile)
    found = connection.read(place.connection("client"))
    cluster_keys = keys.load(place.keys)
    if not found.tcp or cluster_keys is None:
        raise NotConnected(
            f"the cluster of profile {place.profile!r} has no TCP port, and on its unix socket everybody is its owner: "
            "start it with --ParallelController.ip=ADDRESS"
        )
    path = Path(options.output or f"{options.access}.json").expanduser()
    given = connection.Connection(
        "", found.epoch, found.pid, "", "", "client", found.tcp, cluster_keys.of(options.access), options.access
    )
    connection.write(path, given)
    may = "run code on the engines" if options.access == "run" else "see status, follow, and look into variables"
    print(f"{path}: who has it may {may}, until `ipcluster rotate-keys`; RemoteController({str(path)!r}) connects")
    return 0


def create_profile(options: argparse.Namespace) -> int:
    """Make a profile and its config files."""
    for line in templates.create(options.name):
        print(line)
    return 0


def list_profiles(options: argparse.Namespace) -> int:
    """List the profiles there are."""
    rows: list[dict[str, Any]] = []
    for name in profiles.profiles():
        directory = profiles.profile_dir(name)
        there = [file for file in templates.OURS if (directory / file).is_file()]
        running = find(Place.of_profile(name)) is not None
        rows.append({"profile": name, "directory": str(directory), "files": there, "running": running})
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        runs = ", its cluster runs" if row["running"] else ""
        print(f"{row['profile']:<20} {row['directory']}: {', '.join(row['files']) or 'no config files of ours'}{runs}")
    if not rows:
        print("there are no profiles yet; `ipcluster profile create NAME` makes one")
    return 0
