"""Job scripts against golden ones, what batch systems say, and whole clusters with a command that stands in for each.

Slurm is tested for real in ``tests/cluster``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ipkernel_ext import launch
from ipkernel_ext.config import settings
from ipkernel_ext.errors import EngineStartError
from ipkernel_ext.launchers import htcondor, lsf, make, pbs, scripts, sge, slurm
from ipkernel_ext.launchers.batch import Member, seconds_of
from ipkernel_ext.launchers.launcher import LaunchOrder

GOLDEN = Path(__file__).parent / "golden"
SYSTEMS = ["slurm", "pbs", "lsf", "sge", "htcondor"]
FULL = {
    "queue": "main",
    "account": "physics",
    "time_limit": "1:30:00",
    "cpus": 2,
    "memory": "8G",
    "gpus": 1,
    "lines": ["# one line", "# another"],
    "script": "/opt/it's here/env.sh",
    "engines_per_job": 2,
    "drain": 120,
    "python": "/opt/python/bin/python3",
}


def batch(system, tmp_path, **options):
    """A launcher for this system."""
    config = settings.classes_of(options, system)
    order = LaunchOrder(
        str(tmp_path / "key"), "/home/me/logs", "socket", "/home/me/engine.json", "mine", "/usr/bin/python", {}
    )
    return make(system, settings.settings_of(config).of_place(system), order)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("kind", ["small", "full"])
def test_scripts_are_as_they_were_seen_to_be_right(system, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", "/home/me/.ipython")
    groups = [[0, 1], [2, 3], [4]] if kind == "full" else [[0]]
    script = batch(system, tmp_path, **(FULL if kind == "full" else {})).script(groups)
    golden = GOLDEN / f"{system}-{kind}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(script)
    assert script == golden.read_text()


def test_one_job_of_slurm_lets_its_tasks_find_their_places(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", "/home/me/.ipython")
    script = batch("slurm", tmp_path, shape="job", gpus=1).script([[0], [1]])
    assert "#SBATCH --ntasks=2\n" in script
    assert "#SBATCH --gpus-per-task=1\n" in script
    assert "--array" not in script
    assert script.endswith("""sh -c 'exec /usr/bin/python -m ipkernel_ext.nursery.outpost """
                           """/home/me/.ipython/profile_mine/security/ipkernel_ext/jobs-key/orders.json 0/1 """
                           """--index "$SLURM_PROCID"'\n""")  # fmt: skip


@pytest.mark.parametrize("system", ["pbs", "lsf", "sge", "htcondor"])
def test_one_job_with_several_tasks_is_slurms_alone(system, tmp_path):
    with pytest.raises(ValueError, match=f"ParallelBatch.shape cannot be 'job' for {system}"):
        batch(system, tmp_path, shape="job")


def test_lines_with_an_empty_field_are_left_out(tmp_path):
    template = tmp_path / "template"
    template.write_text("a {{one}}\nb {{ two }} {{one}}\nc ${SHELL} {x}\n")
    assert scripts.render(template, {"one": "1", "two": ""}) == "a 1\nc ${SHELL} {x}\n"


def test_a_field_that_does_not_exist_is_named_with_its_line(tmp_path):
    template = tmp_path / "template"
    template.write_text("\n{{quue}}\n")
    with pytest.raises(ValueError, match=r"template, line 2: there is no field \{\{quue\}\}: did you mean queue\?"):
        scripts.render(template, {"queue": "x"})
    with pytest.raises(ValueError, match="cannot be read: No such file or directory"):
        scripts.render(tmp_path / "none", {})


def test_time_limits_in_seconds():
    assert [seconds_of(text) for text in ("", "90", "1:30:00")] == [0, 90, 5400]
    with pytest.raises(ValueError, match="time_limit cannot be '2 days'; this system takes seconds, or H:MM:SS"):
        seconds_of("2 days")


def test_what_slurm_says_of_members():
    said = (
        "JobId=12 ArrayJobId=12 ArrayTaskId=2-3%1 JobState=PENDING Reason=Resources ExitCode=0:0\n"
        "JobId=13 ArrayJobId=12 ArrayTaskId=0 JobState=RUNNING Reason=None ExitCode=0:0\n"
        "JobId=14 ArrayJobId=12 ArrayTaskId=1 JobState=TIMEOUT Reason=TimeLimit ExitCode=0:0\n"
        "JobId=15 ArrayJobId=12 ArrayTaskId=4 JobState=FAILED Reason=NonZeroExitCode ExitCode=2:0\n"
        "JobId=16 ArrayJobId=12 ArrayTaskId=5 JobState=COMPLETED Reason=None ExitCode=0:0\n"
    )
    assert slurm.parse(said, 6) == {
        0: Member("running"),
        1: Member("ended", "TIMEOUT (its time limit)"),
        2: Member("pending", "Resources"),
        3: Member("pending", "Resources"),
        4: Member("ended", "FAILED (NonZeroExitCode), exit code 2"),
        5: Member("ended"),
    }
    one = "JobId=12 JobState=PENDING Reason=Nodes_required_for_job_are_DOWN,_DRAINED ExitCode=0:0\n"
    assert slurm.parse(one, 2) == dict.fromkeys((0, 1), Member("pending", "Nodes required for job are DOWN, DRAINED"))


def test_what_pbs_says_of_members():
    jobs = {
        "12[].server": {"job_state": "B"},
        "12[0].server": {"job_state": "R"},
        "12[1].server": {"job_state": "Q", "comment": "Not Running: Insufficient amount of resource: ncpus"},
        "12[2].server": {"job_state": "F", "Exit_status": 271, "comment": "job killed: walltime exceeded"},
        "12[3].server": {"job_state": "F", "Exit_status": 0},
    }
    assert pbs.parse(json.dumps({"Jobs": jobs})) == {
        0: Member("running"),
        1: Member("pending", "Insufficient amount of resource: ncpus"),
        2: Member("ended", "exit code 271: job killed: walltime exceeded"),
        3: Member("ended"),
    }
    assert pbs.parse(json.dumps({"Jobs": {"13.server": {"job_state": "R"}}})) == {0: Member("running")}


def test_what_lsf_says_of_members():
    records = [
        {"JOBINDEX": "1", "STAT": "RUN"},
        {"JOBINDEX": "2", "STAT": "PEND", "PEND_REASON": "Not enough slots;"},
        {"JOBINDEX": "3", "STAT": "EXIT", "EXIT_REASON": "TERM_RUNLIMIT: job killed after reaching LSF run time limit"},
        {"JOBINDEX": "4", "STAT": "DONE"},
    ]
    assert lsf.parse(json.dumps({"RECORDS": records})) == {
        0: Member("running"),
        1: Member("pending", "Not enough slots"),
        2: Member("ended", "EXIT: TERM_RUNLIMIT: job killed after reaching LSF run time limit"),
        3: Member("ended"),
    }


def test_what_grid_engine_says_of_members():
    entry = "<job_list><JB_job_number>{}</JB_job_number><state>{}</state><tasks>{}</tasks></job_list>"
    jobs = [("12", "r", 1), ("12", "qw", 2), ("12", "Eqw", 3), ("13", "r", 1)]
    said = f"<job_info><queue_info>{''.join(entry.format(*job) for job in jobs)}</queue_info></job_info>"
    assert sge.parse(said, "12") == {
        0: Member("running"),
        1: Member("pending"),
        2: Member("pending", "it is in error state; `qstat -j` says why"),
    }
    assert sge.why("hard resource: x\nscheduling info:   queue instance is full\n  more") == "queue instance is full"
    assert sge.why("nothing") == ""


def test_what_htcondor_says_of_members():
    jobs = [
        {"ProcId": 0, "JobStatus": 2},
        {"ProcId": 1, "JobStatus": 1},
        {"ProcId": 2, "JobStatus": 5, "HoldReason": "no such file"},
        {"ProcId": 3, "JobStatus": 3, "RemoveReason": "Job exceeded allowed job duration"},
        {"ProcId": 4, "JobStatus": 4, "ExitCode": 0},
    ]
    assert htcondor.parse(json.dumps(jobs)) == {
        0: Member("running"),
        1: Member("pending"),
        2: Member("pending", "it is held: no such file"),
        3: Member("ended", "it was removed: Job exceeded allowed job duration"),
        4: Member("ended"),
    }
    assert htcondor.parse("") == {}


COMMANDS = {
    "pbs": {"qsub": "qsub-pbs", "qstat": "qstat-pbs", "qdel": "qdel-pbs"},
    "lsf": {"bsub": "bsub", "bjobs": "bjobs", "bkill": "bkill"},
    "sge": {"qsub": "qsub-sge", "qstat": "qstat-sge", "qdel": "qdel-sge"},
    "htcondor": {name: name for name in ("condor_submit", "condor_q", "condor_history", "condor_rm")},
}


@pytest.fixture
def standin(request, tmp_path, monkeypatch):
    """A system, which is its name, and its commands. All that it has started must end by itself."""
    bin, home = tmp_path / "bin", tmp_path / "jobs"
    bin.mkdir()
    home.mkdir()
    for name, meant in COMMANDS[request.param].items():
        program = bin / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "standin.py"} {meant} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setenv("STANDIN", str(home))
    served = [sys.executable, str(Path(__file__).parent / "standin.py"), "serve"]
    with subprocess.Popen(served, stdout=subprocess.PIPE, text=True) as system:
        assert system.stdout.readline() == "ready\n"
        yield request.param
        _, left = psutil.wait_procs(psutil.Process(system.pid).children(recursive=True), 20)
        for process in left:
            process.kill()
        system.terminate()
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("standin", COMMANDS, indirect=True)
def test_a_cluster_by_a_system_that_a_command_stands_in_for(standin):
    with launch(n=3, engines=standin, engines_per_job=2, poll=0.2) as rc:
        assert rc.ids == [0, 1, 2]
        assert rc.apply(abs, -1) == [1, 1, 1]
        rc.cluster.scale(4)
        assert rc.ids == [0, 1, 2, 3]
        rc.cluster.scale(1)
        assert rc.ids == [0]


@pytest.mark.slow
@pytest.mark.parametrize("standin", COMMANDS, indirect=True)
def test_a_refusal_comes_in_the_systems_words(standin):
    with pytest.raises(EngineStartError, match="the queue is full, as the administrator said"):
        launch(n=1, engines=standin, lines=["# queue-is-full"])
