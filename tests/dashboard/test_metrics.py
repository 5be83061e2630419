"""Text for Prometheus."""

import re

from ipkernel_ext.core import messages as m
from ipkernel_ext.dashboard.metrics import text
from ipkernel_ext.dashboard.state import Facts
from tests.dashboard.test_state import BUSY, IDLE, facts


def samples(facts):
    return dict(line.rsplit(" ", 1) for line in text(facts).splitlines() if not line.startswith("#"))


def test_what_is_told():
    told = samples(facts(IDLE, BUSY))
    assert told["ipkernel_ext_up"] == "1"
    assert told['ipkernel_ext_engines{state="busy"}'] == "1"
    assert told['ipkernel_ext_engines{state="away"}'] == "0"
    assert told['ipkernel_ext_engine_tasks_done_total{engine="0",host="here"}'] == "4"
    assert told['ipkernel_ext_engine_cpu_ratio{engine="1",host="here"}'] == "0.996"
    assert told['ipkernel_ext_engine_memory_bytes{engine="0",host="here"}'] == "35123456"
    assert told["ipkernel_ext_tasks_unassigned"] == "3"
    assert told["ipkernel_ext_controller_start_time_seconds"] == "1000.4"


def test_each_metric_has_its_help_and_type_before_its_samples():
    name = ""
    for line in text(facts(IDLE, BUSY)).splitlines():
        if line.startswith("# HELP"):
            name = line.split()[2]
        elif line.startswith("# TYPE"):
            assert line.split()[2:] == [name, "counter" if name.endswith("_total") else "gauge"]
        else:
            assert re.fullmatch(rf'{name}(\{{\w+="[^"]*"(,\w+="[^"]*")*\}})? [-\d.e+]+', line)


def test_what_is_not_known_is_not_told():
    told = samples(facts(m.EngineRecord("b0", "", 0, "", 0, state="away")))
    assert not [name for name in told if "cpu" in name or "memory" in name]


def test_labels_are_escaped():
    odd = m.EngineRecord("b0", 'a"b\\c\nd', 0, "", 0)
    assert r'host="a\"b\\c\nd"' in text(facts(odd))


def test_a_controller_that_is_away_is_down():
    assert samples(Facts(1.0, trouble="away")) == {"ipkernel_ext_up": "0"}
