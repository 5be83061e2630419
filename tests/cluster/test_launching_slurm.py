"""``--engines=slurm``, with a real Slurm of two nodes on this machine."""

import os
import subprocess
import sys

import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.errors import EngineStartError, NoEngines
from tests.cluster.programs import cluster, ipcluster
from tests.cluster.slurm import slurm, whole_slurm

__all__ = ["slurm", "whole_slurm"]

QUICK = "--ParallelBatch.poll=0.3"


def test_engines_come_from_the_queue_scale_and_go(slurm):
    with cluster("--engines=slurm", "-n", "3", QUICK) as rc:
        assert rc.ids == [0, 1, 2]
        assert {engine.state for engine in rc.engines} == {"ready"}
        names = [r.value for r in rc.execute("import os; os.environ['SLURM_JOB_NAME']")]
        assert names == ["ipkernel_ext-default"] * 3
        assert rc.map(abs, range(-50, 0)) == list(range(50, 0, -1))
        rc.cluster.scale(1)
        assert rc.ids == [0]
        rc.cluster.scale(2)
        assert rc.ids == [0, 1]
    assert "RUNNING" not in slurm("squeue", "-h", "-o", "%T")


@pytest.mark.slow
def test_one_job_whose_tasks_have_several_engines_each(slurm):
    with launch(n=5, engines="slurm", shape="job", engines_per_job=3, poll=0.3, lines=["#SBATCH --nodes=2"]) as rc:
        nodes = [r.value for r in rc.execute("import os; os.environ['SLURMD_NODENAME']")]
        assert {nodes[0], nodes[3]} == {"n1", "n2"}
        assert nodes == [nodes[0]] * 3 + [nodes[3]] * 2
        processes = {r.value for r in rc.execute("os.getppid()")}
        assert len(processes) == 2, "an outpost for each task"


@pytest.mark.slow
def test_a_pending_job_says_why_and_engines_are_used_as_they_come(slurm):
    with launch(n=2, engines="slurm", cpus=4, poll=0.3) as rc:
        waiting = ipcluster("start", "--daemonize", "--engines=slurm", "-n", "4", "--ParallelBatch.cpus=4", QUICK,
                            "--ParallelCluster.start_timeout=8")  # fmt: skip
        assert waiting.returncode == 0, waiting.stderr
        assert "is pending: Resources" in waiting.stdout
        assert "2 of 4 engines of profile 'default' are ready" in waiting.stdout
        with RemoteController() as other:
            assert other.ids == [0, 1]
            assert other.submit(abs, -1).result(10) == 1
            assert "is pending: Resources" in other.why(3)
            with pytest.raises(
                TimeoutError, match="2 of 4 engines are there after 0.1 s: job .* is pending: Resources"
            ):
                other.wait_for_engines(4, 0.1)
            rc.close()
            other.wait_for_engines(4, 30)
        assert ipcluster("stop").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"queue": "nowhere"}, "invalid partition specified: nowhere"),
        ({"queue": "closed"}, "Required partition not available"),
        ({"lines": ["#SBATCH --nonsense"]}, "unrecognized option '--nonsense'"),
        ({"gpus": 1}, "Invalid generic resource|Requested node configuration is not available"),
    ],
)
def test_a_rejected_job_says_so_in_sbatchs_words(slurm, options, says):
    with pytest.raises(
        EngineStartError,
        match=f"0 of 1 engine is there: sbatch: (?:error: )?(?:Batch job submission failed: )?(?:{says})",
    ):
        launch(n=1, engines="slurm", **options)


@pytest.mark.slow
def test_a_limit_of_the_queue_is_why_a_job_is_pending(slurm):
    with pytest.raises(
        EngineStartError, match="0 of 1 engine is there after 5 s: job .* is pending: PartitionTimeLimit"
    ):
        launch(n=1, engines="slurm", queue="short", time_limit="5", poll=0.3, timeout=5)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_before_its_time_limit_an_engine_is_told_finishes_and_gets_nothing_new(slurm):
    with launch(n=1, engines="slurm", time_limit="1", drain=50, poll=0.3) as rc:
        rc.execute("import signal, time\ntold = []\nsignal.signal(signal.SIGUSR1, lambda *_: told.append('saved'))")
        running = rc[0].execute("while not told: time.sleep(0.1)\nprint(told)", block=False)
        balanced = rc.submit(abs, -1)
        assert "saved" in running.get(90).stdout
        assert rc._link.channel.wait_roster(lambda roster: not roster.ids, 30), "it has left by itself"
        with pytest.raises(NoEngines, match="the engines have ended"):
            balanced.result(30)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_job_that_is_killed_at_its_limit_is_said_to_be(slurm):
    with launch(n=1, engines="slurm", time_limit="1", drain=0, poll=0.3) as rc:
        assert rc._link.channel.wait_roster(lambda roster: bool(roster.trouble), 150)
        with pytest.raises(NoEngines, match=r"job \d+ with engine 0 has ended: TIMEOUT \(its time limit\)"):
            rc.execute("1")


@pytest.mark.slow
def test_a_cancelled_job_is_said_to_be(slurm):
    with launch(n=2, engines="slurm", poll=0.3) as rc:
        slurm("scancel", "--user=root")
        assert rc._link.channel.wait_roster(lambda roster: bool(roster.trouble), 30)
        with pytest.raises(NoEngines, match=r"job \d+ with engine 0-1 has ended: CANCELLED"):
            rc.execute("1")


@pytest.mark.slow
def test_engines_of_a_job_end_when_the_host_of_the_controller_has_vanished(slurm):
    """Its processes are killed, which is all that can be seen of that from a node."""
    import psutil

    rc = launch(n=1, engines="slurm", poll=0.3, engine_grace=2)
    (engine,) = [psutil.Process(engine.pid) for engine in rc.engines]
    agent = psutil.Process(rc.cluster.launched._agent.pid)
    everything = [*agent.children(recursive=True), agent]
    for process in everything:
        process.kill()
    psutil.wait_procs(everything, 10)
    _, alive = psutil.wait_procs([engine], 30)
    assert not alive
    rc.close()
    rc.cluster.launched.place.sweep()
    wait = 'until [ -z "$(squeue -h)" ]; do sleep 0.3; done'
    subprocess.run(["sh", "-c", wait], timeout=30, check=True, env=slurm.environment())


@pytest.mark.slow
def test_engines_inside_an_allocation_have_their_ranks(slurm, tmp_path):
    controller = subprocess.Popen(
        [sys.executable, "-m", "ipkernel_ext.commands", "ipcontroller"], stdout=subprocess.PIPE, text=True
    )
    assert "controller listens" in controller.stdout.readline()
    engine = [sys.executable, "-m", "ipkernel_ext.commands", "ipengine"]
    job = subprocess.Popen(
        ["srun", "-n", "4", "--overcommit", *engine], stdin=subprocess.DEVNULL, env=slurm.environment()
    )
    with RemoteController() as rc:
        rc.wait_for_engines(4, 40)
        assert [(e.id, e.rank, e.size) for e in rc.engines] == [(n, n, 4) for n in range(4)]
        values = [r.value for r in rc.execute("import os; int(os.environ['SLURM_PROCID'])")]
        assert values == [0, 1, 2, 3]
        rc.shutdown()
    assert job.wait(30) == 0
    controller.communicate(timeout=15)


def test_a_template_with_an_unknown_field_is_refused_before_anything_starts(tmp_path):
    template = tmp_path / "job.sh"
    template.write_text("#!/bin/sh\n#SBATCH --partition={{quue}}\n{{outpost}}\n")
    said = ipcluster("start", "--engines=slurm", "-n", "1", f"--ParallelBatch.template={template}")
    assert said.returncode == 1
    assert f"{template}, line 2: there is no field {{{{quue}}}}: did you mean queue?" in said.stderr
    said = ipcluster("start", "--engines=slurm", "-n", "1", "--ParallelBatch.template=/no/such/file")
    assert "the template /no/such/file cannot be read: No such file or directory" in said.stderr


def test_without_slurm_that_is_said(monkeypatch, tmp_path):
    python = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", python)
    with pytest.raises(EngineStartError, match="there is no command sbatch here"):
        launch(n=1, engines="slurm")
