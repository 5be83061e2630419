"""Bars that Ctrl-C leaves as they should be."""

import gc
import io
import weakref

from tqdm import tqdm

from ipkernel_ext import bars


def test_a_bar_is_tqdms_and_ends_with_the_block():
    shown = io.StringIO()
    with bars.bar(3, file=shown) as bar:
        assert isinstance(bar, tqdm)
        bar.update(3)
    assert "3/3" in shown.getvalue()


def test_nothing_of_ours_runs_when_one_is_finalized():
    with bars.bar(1, file=io.StringIO()) as bar:
        kept = weakref.ref(bar)
        assert type(bar).__del__ is not tqdm.__del__
    closed, bar.close = [], lambda: closed.append(1)
    del bar
    gc.collect()
    assert kept() is None and not closed


def test_nobody_watches_over_bars_and_their_lock_is_one_of_c():
    with bars.bar(1, file=io.StringIO()) as bar:
        assert bar.monitor is None or type(bar).monitor_interval == 0
        assert type(type(bar).get_lock()).__module__ == "_thread"
        assert type(bar).get_lock() is not tqdm.get_lock()
