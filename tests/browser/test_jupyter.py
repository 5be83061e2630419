"""Notebooks in JupyterLab, and in the notebook application alone: what is on the screen."""

import contextlib
import re

import pytest
from playwright.sync_api import expect

from tests.browser.jupyter import Server, answer

pytestmark = pytest.mark.timeout(180)

START = "%load_ext ipkernel_ext\n%cluster start -n 2"
CLIENT = f"{START}\nfrom ipkernel_ext import RemoteController\nrc = RemoteController()\nimport time"


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def opened(server, others_page):
    """Open a notebook of these cells; a function."""
    notebooks = []

    def open(*cells, app="lab"):
        notebooks.append(server.open(others_page, *cells, app=app))
        return notebooks[-1]

    yield open
    for notebook in notebooks:
        notebook.close()


@pytest.fixture
def gate(tmp_path):
    """What holds code on the engines up, until it is opened."""
    return Gate(tmp_path / "open")


class Gate:
    def __init__(self, path):
        self._path = path
        self.closed = f"not __import__('os').path.exists({str(path)!r})"

    def open(self):
        self._path.touch()


PLOT = """%%px
%matplotlib inline
import matplotlib.pyplot as plt
plt.figure(figsize=(2, 1))
plt.plot([1, 2])
plt.show()"""


ABOVE_AN_IMAGE = ".jp-OutputArea-child:has(+ .jp-OutputArea-child img)"


@pytest.mark.parametrize("app", ["lab", pytest.param("notebook", marks=pytest.mark.slow)])
def test_engines_output_and_errors_are_below_the_cell(opened, app):
    notebook = opened(
        START, "%px print('hello'); 6 * 7", "%%px\ndef half(n):\n    return n / 0\nhalf(6)", PLOT, app=app
    )
    expect(notebook.run(0)).to_contain_text("started 2 engines on this machine")
    shown = notebook.run(1)
    for text in ("[0] hello", "[1] hello", "Out[0:1]: 42", "Out[1:1]: 42"):
        expect(shown).to_contain_text(text)
    failed = notebook.run(2)
    expect(failed).to_contain_text("[0-1] 2 engines:")
    expect(failed).to_contain_text("return n / 0")
    expect(failed).to_contain_text("CompositeError: 2 of 2 engines failed")
    expect(failed.locator(".ansi-red-fg", has_text="ZeroDivisionError")).to_have_count(1)
    plots = notebook.run(3)
    expect(plots.locator("img")).to_have_count(2)
    for image in plots.locator("img").all():
        assert image.evaluate("image => image.complete && image.naturalWidth > 100")
    before = [text.split()[-1] for text in plots.locator(ABOVE_AN_IMAGE).all_inner_texts()]
    assert sorted(before) == ["[0]", "[1]"]


LONG = """%%px
import time
kept = 1
print("begun", flush=True)
for i in range(6000):
    time.sleep(0.1)"""


@pytest.mark.slow
def test_the_stop_button_ends_what_the_engines_run(opened):
    notebook = opened(START, LONG, "%px kept")
    notebook.run(0)
    for _ in range(2):
        shown = notebook.begin(1)
        expect(shown).to_contain_text("[0] begun")
        expect(shown).to_contain_text("[1] begun")
        notebook.interrupt()
        notebook.wait(1)
        expect(shown).to_contain_text("KeyboardInterrupt")
        expect(shown).not_to_contain_text("Traceback")
        expect(shown).not_to_contain_text("running")
    expect(notebook.run(2)).to_contain_text("Out[1:3]: 1")


@pytest.mark.slow
def test_a_call_that_is_stopped_shows_the_users_own_lines(opened):
    notebook = opened(CLIENT, "def call():\n    print('begun', flush=True)\n    rc.apply(time.sleep, 600)\n\ncall()")
    notebook.run(0)
    shown = notebook.begin(1)
    expect(shown).to_contain_text("begun")
    notebook.interrupt()
    notebook.wait(1)
    expect(shown).to_contain_text("rc.apply(time.sleep, 600)")
    expect(shown).to_contain_text("KeyboardInterrupt")
    expect(shown).not_to_contain_text("threading.py")
    expect(shown).not_to_contain_text("ipkernel_ext/")


@pytest.mark.slow
def test_a_display_changes_in_its_place_while_the_cell_runs(opened, gate):
    cell = f"""%%px
import time
from IPython.display import HTML, display
handle = display(HTML("<b>first</b>"), display_id=True)
while {gate.closed}:
    time.sleep(0.01)
handle.update(HTML("<b>second</b>"))"""
    notebook = opened(START, cell)
    notebook.run(0)
    shown = notebook.begin(1).locator("b")
    expect(shown).to_have_text(["first", "first"])
    gate.open()
    expect(shown).to_have_text(["second", "second"])
    notebook.wait(1)
    expect(shown).to_have_text(["second", "second"])


@pytest.mark.slow
def test_a_maps_progress_is_a_bar(opened, gate):
    wait = f"""def wait(item):
    import time
    while item >= 4 and {gate.closed}:
        time.sleep(0.01)"""
    notebook = opened(f"{CLIENT}\n{wait}", "rc.map(wait, range(8), progress=True, chunksize=1);")
    notebook.run(0)
    shown = notebook.begin(1)
    expect(shown.locator(".widget-hprogress")).to_be_visible()
    expect(shown).to_contain_text("4/8")
    gate.open()
    notebook.wait(1)
    expect(shown).to_contain_text("8/8")
    expect(shown.locator(".widget-hprogress")).to_have_count(1)


@pytest.mark.slow
def test_the_engines_own_bars_move_and_stay_where_they_are(opened, gate):
    cell = f"""%%px
import time
from tqdm.auto import tqdm
with tqdm(total=4) as bar:
    bar.update(2)
    bar.refresh()
    while {gate.closed}:
        time.sleep(0.01)
    bar.update(2)"""
    notebook = opened(START, cell)
    notebook.run(0)
    shown = notebook.begin(1)
    expect(shown).to_contain_text(re.compile(r"\[0\]\s+50%"))
    expect(shown).to_contain_text(re.compile(r"\[1\]\s+50%"))
    gate.open()
    notebook.wait(1)
    expect(shown).to_contain_text(re.compile(r"\[0\] 100%"))
    expect(shown).to_contain_text(re.compile(r"\[1\] 100%"))
    expect(shown).not_to_contain_text("50%")


@pytest.mark.slow
def test_what_still_runs_is_said_and_gone_at_the_end(opened, gate):
    notebook = opened(START, f"%%px\nimport time\nwhile {gate.closed}: time.sleep(0.01)\nprint('end')")
    notebook.run(0)
    shown = notebook.begin(1)
    expect(shown).to_contain_text("0 of 2 done, [0-1] running")
    gate.open()
    notebook.wait(1)
    expect(shown).to_contain_text("[1] end")
    expect(shown).not_to_contain_text("running")


@pytest.mark.slow
def test_the_table_of_the_engines_is_drawn_in_its_place(opened, gate):
    begin = f"%px -t 1 -a import time\n%px -t 1 -a while {gate.closed}: time.sleep(0.01)"
    notebook = opened(f"{START}\n{begin}", "%engines -w", "%px 1 + 1")
    notebook.run(0)
    shown = notebook.begin(1)
    expect(shown).to_contain_text("busy")
    gate.open()
    expect(shown).not_to_contain_text("busy")
    expect(shown.locator("pre")).to_have_count(1)
    notebook.interrupt()
    notebook.wait(1)
    expect(shown).not_to_contain_text("KeyboardInterrupt")
    expect(notebook.run(2)).to_contain_text("Out[1:3]: 2")


FAILS = """%%px
kept = 1
def share(n):
    half = n / 2
    return half / 0
share(6)"""


@pytest.mark.slow
def test_the_debugger_is_used_by_the_input_field(opened):
    notebook = opened(START, FAILS, "%pxdebug 1", "%px kept")
    notebook.run(0)
    notebook.run(1)
    shown = notebook.begin(2)
    expect(shown.locator(".jp-Stdin-prompt").last).to_have_text("[1] ipdb> ")
    expect(shown).to_contain_text("----> 4     return half / 0")
    answer(shown, "p half")
    expect(shown).to_contain_text("3.0")
    answer(shown, "up")
    expect(shown).to_contain_text("----> 5 share(6)")
    answer(shown, "!kept = 5")
    answer(shown, "q")
    notebook.wait(2)
    kept = notebook.run(3)
    expect(kept).to_contain_text("Out[0:2]: 1")
    expect(kept).to_contain_text(re.compile(r"Out\[1:\d\]: 5"))


@pytest.mark.slow
def test_a_breakpoint_is_used_by_the_input_field(opened):
    cell = "%%px -t 0\ndef add(n):\n    total = n + 1\n    breakpoint()\n    return total\nadd(4)"
    notebook = opened(START, cell)
    notebook.run(0)
    shown = notebook.begin(1)
    expect(shown.locator(".jp-Stdin-prompt").last).to_have_text("[0] ipdb> ")
    answer(shown, "!total = 7")
    answer(shown, "c")
    notebook.wait(1)
    expect(shown).to_contain_text("Out[0:1]: 7")


COMPLETE = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  await kernel.requestComplete({ code: "%px v", cursor_pos: 5 });
}"""  # the first one takes longer than JupyterLab waits for


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["%px velo", "%%px\nlocal = 1\nprint(velo"], ids=["line", "cell"])
def test_names_of_the_engines_are_completed(opened, cell):
    notebook = opened(START, "%px velocity, velocities = 1, 2", cell)
    notebook.run(0)
    notebook.run(1)
    notebook.page.evaluate(COMPLETE)
    notebook.cells.nth(2).locator(".cm-line").last.click()
    notebook.page.keyboard.press("End")
    choices = notebook.page.locator(".jp-Completer")
    for _ in range(10):  # a busy machine may take longer than JupyterLab waits for
        notebook.page.keyboard.press("Tab")
        with contextlib.suppress(AssertionError):
            expect(choices).to_contain_text("velocities", timeout=3000)
            break
    expect(choices).to_contain_text("velocities")
    expect(choices).to_contain_text("velocity")


@pytest.mark.slow
def test_the_dashboard_is_below_the_cell(opened):
    notebook = opened(CLIENT, "rc.dashboard()", "%px 1 + 1")
    notebook.run(0)
    frame = notebook.run(1).frame_locator("iframe")
    expect(frame.locator("#connection")).to_have_text("live")
    expect(frame.locator("#rows tr[data-id='1']")).to_be_visible()
    notebook.run(2)
    expect(frame.locator("#tile-done")).to_have_text("2 done")
