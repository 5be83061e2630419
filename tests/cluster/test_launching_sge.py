"""``--engines=sge``, with a real Grid Engine of one node on this machine."""

import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.errors import EngineStartError, NoEngines
from tests.cluster.programs import cluster, ipcluster
from tests.cluster.sge import sge, whole_sge

__all__ = ["sge", "whole_sge"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

QUICK = "--ParallelBatch.poll=0.3"


def test_engines_come_from_the_queue_scale_and_go(sge):
    with cluster("--engines=sge", "-n", "3", QUICK) as rc:
        assert rc.ids == [0, 1, 2]
        tasks = [r.value for r in rc.execute("import os; os.environ['JOB_NAME'], os.environ['SGE_TASK_ID']")]
        assert tasks == [("ipkernel_ext-default", str(number)) for number in (1, 2, 3)]
        assert rc.map(abs, range(-50, 0)) == list(range(50, 0, -1))
        rc.cluster.scale(1)
        assert rc.ids == [0]
        rc.cluster.scale(2)
        assert rc.ids == [0, 1]


def test_engines_that_share_a_job_have_its_slots(sge):
    with launch(n=4, engines="sge", engines_per_job=2, poll=0.3) as rc:
        processes = [r.value for r in rc.execute("import os; os.getppid()")]
        assert processes == [processes[0]] * 2 + [processes[2]] * 2
        assert {r.value for r in rc.execute("os.environ['NSLOTS']")} == {"2"}


def test_a_pending_job_says_why_and_engines_are_used_as_they_come(sge):
    with launch(n=2, engines="sge", poll=0.3):
        waiting = ipcluster(
            "start", "--daemonize", "--engines=sge", "-n", "3", QUICK, "--ParallelCluster.start_timeout=8"
        )
        assert waiting.returncode == 0, waiting.stderr
        assert "is pending: " in waiting.stdout
        assert "2 of 3 engines of profile 'default' are ready" in waiting.stdout
        with RemoteController() as rc:
            assert rc.ids == [0, 1]
            assert "is pending: " in rc.why(2)
            rc.cluster.scale(2)
        assert ipcluster("stop").returncode == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"queue": "nowhere"}, 'Unable to run job: Job was rejected because job requests unknown queue "nowhere"'),
        ({"account": "nobody"}, 'Unable to run job: job rejected: the requested project "nobody" does not exist'),
        ({"lines": ["#$ -nonsense"]}, "Unable to read script file because of error: invalid option argument"),
        ({"gpus": 1}, 'Unable to run job: unknown resource "gpu"'),
    ],
)
def test_a_rejected_job_says_so_in_qsubs_words(sge, options, says):
    with pytest.raises(EngineStartError, match=f"0 of 1 engine is there: qsub: {says}") as refused:
        launch(n=1, engines="sge", **options)
    assert "Exiting" not in str(refused.value)


def test_before_its_time_limit_an_engine_is_told_finishes_and_gets_nothing_new(sge):
    with launch(n=1, engines="sge", time_limit="40", drain=30, poll=0.3) as rc:
        rc.execute("import signal, time\ntold = []\nsignal.signal(signal.SIGUSR1, lambda *_: told.append('saved'))")
        running = rc[0].execute("while not told: time.sleep(0.1)\nprint(told)", block=False)
        balanced = rc.submit(abs, -1)
        assert "saved" in running.get(60).stdout
        assert rc._link.channel.wait_roster(lambda roster: not roster.ids, 30), "it has left by itself"
        with pytest.raises(NoEngines, match="the engines have ended"):
            balanced.result(30)


def test_the_end_of_a_job_that_somebody_ended_is_told(sge):
    with launch(n=2, engines="sge", poll=0.3) as rc:
        sge("qdel", "-u", "*")
        assert rc._link.channel.wait_roster(lambda roster: bool(roster.trouble), 30)
        with pytest.raises(NoEngines, match="the engines have ended"):
            rc.execute("1")
