"""Tags and GPUs of engines, and the address by which others are told to reach a controller."""

import signal

import pytest

from ipkernel_ext import launch
from ipkernel_ext.config import connection
from ipkernel_ext.config.place import Place

VISIBLE = "import os; os.environ.get('CUDA_VISIBLE_DEVICES')"


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_each_engine_sees_its_gpus_also_as_a_successor(start_method):
    env = {"CUDA_VISIBLE_DEVICES": "3,5"}
    with launch(n=2, env=env, start_method=start_method, tags=["big"]) as rc:
        assert [r.value for r in rc.execute(VISIBLE)] == ["3", "5"]
        assert [engine.tags for engine in rc.engines] == [["big", "gpu"]] * 2
        assert rc["tag:gpu"].ids == rc["tag:big"].ids == [0, 1]
        rc[1].restart()
        assert rc[1].execute(VISIBLE).value == "5"


def test_gpus_are_left_alone_on_request_and_without_any_there_is_no_tag():
    with launch(n=2, env={"CUDA_VISIBLE_DEVICES": "3,5"}, share_gpus=False) as rc:
        assert [r.value for r in rc.execute(VISIBLE)] == ["3,5"] * 2
    with launch(n=1, env={"CUDA_VISIBLE_DEVICES": ""}) as rc:
        assert rc.engines[0].tags == []


def test_others_are_told_the_name_that_the_user_gives(command):
    controller = command("ipcontroller", "--ip=127.0.0.1", "--location=head.example.org")
    said = []
    while "Ctrl-C" not in (line := controller.stdout.readline()):
        said.append(line)
    (url,) = connection.read(Place.of_profile(None).connection("client")).tcp
    assert url.startswith("tcp://head.example.org:")
    assert any(f"for other hosts it listens at {url}" in line for line in said)
    controller.send_signal(signal.SIGTERM)
    controller.wait(20)
