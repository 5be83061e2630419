"""What only a Jupyter kernel does: interrupts, restarts, widgets."""

import subprocess
import sys

import pytest
from jupyter_client.manager import start_new_kernel

IPCLUSTER = [sys.executable, "-c", "from ipkernel_ext.commands import ipcluster; ipcluster()"]


class Kernel:
    """A kernel, and what its cells gave."""

    def __init__(self):
        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def __call__(self, code):
        """Run a cell; sets ``printed``, ``shown`` (bundles), ``error`` (its name) and ``value``."""
        return self.take(self.client.execute(code))

    def take(self, cell, until=""):
        """Take what a cell gives until it is done, or has printed this, or sends a message of this type."""
        self.printed, self.shown, self.error, self.value = "", [], None, None
        self.places = []  # for each of those shown, the type of its message and its display id
        while True:
            message = self.client.get_iopub_msg(timeout=40)
            if message["parent_header"].get("msg_id") != cell:
                continue
            content = message["content"]
            if message["msg_type"] == until:
                return None
            match message["msg_type"]:
                case "stream":
                    self.printed += content["text"]
                    if until and until in self.printed:
                        return self.printed
                case "display_data" | "update_display_data":
                    self.shown.append(content["data"])
                    self.places.append((message["msg_type"], content["transient"].get("display_id")))
                case "execute_result":
                    self.value = content["data"]["text/plain"]
                case "error":
                    self.error = content["ename"]
                case "status" if content["execution_state"] == "idle":
                    return self.value

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.manager.cleanup_resources()
        self.manager.context.destroy()


@pytest.fixture
def kernel():
    kernel = Kernel()
    kernel("%load_ext ipkernel_ext")
    yield kernel
    kernel.close()


def test_the_kernels_interrupt_cancels_a_blocking_magic(kernel):
    kernel("%cluster start -n 2")
    kernel("%px kept = 1")
    cell = kernel.client.execute("%px print('begun', flush=True); import time; time.sleep(60)")
    kernel.take(cell, until="[1] begun")
    kernel.manager.interrupt_kernel()
    kernel.take(cell)
    assert kernel.error == "KeyboardInterrupt"
    kernel("%pull kept")
    assert kernel("kept") == "[1, 1]"


def test_the_kernels_interrupt_cancels_a_blocking_call(kernel):
    kernel("from ipkernel_ext import launch\nrc = launch(n=1)\nrc['kept'] = 1\nimport time")
    cell = kernel.client.execute("print('begun', flush=True); rc.apply(time.sleep, 60)")
    kernel.take(cell, until="begun")
    kernel.manager.interrupt_kernel()
    kernel.take(cell)
    assert kernel.error == "KeyboardInterrupt"
    assert kernel("rc['kept']") == "[1]"
    kernel("rc.close()")
    assert kernel.error is None


def test_the_table_of_the_engines_is_one_output_that_changes_until_the_interrupt(kernel):
    kernel("%cluster start -n 2")
    cell = kernel.client.execute("%engines -w")
    kernel.take(cell, until="display_data")
    kernel.take(cell, until="update_display_data")
    kernel.manager.interrupt_kernel()
    kernel.take(cell)
    assert kernel.error is None
    assert kernel("1 + 1") == "2"


def test_a_restarted_kernel_finds_the_running_cluster(kernel):
    subprocess.run([*IPCLUSTER, "start", "-n", "2", "--daemonize"], check=True, capture_output=True)
    try:
        kernel("%px kept = 7")
        kernel("%px -a -o later import time; time.sleep(0.1); kept += 1")
        kernel.manager.restart_kernel()
        kernel.client.wait_for_ready(timeout=40)
        kernel("%load_ext ipkernel_ext")
        kernel("%pull kept")
        assert kernel("kept") == "[8, 8]", "what was sent before goes on, and comes first"
        kernel("from ipkernel_ext import RemoteController")
        assert kernel("await (RemoteController.connect())") == "<async RemoteController: 2 engines (0-1)>"
    finally:
        subprocess.run([*IPCLUSTER, "stop"], check=True, capture_output=True)


def test_progress_is_a_widget(kernel):
    kernel("%cluster start -n 2")
    kernel("from ipkernel_ext import RemoteController\nrc = RemoteController()\nimport time")
    kernel("values = rc.map(time.sleep, [0.2] * 8, progress=True, chunksize=1)")
    assert any("application/vnd.jupyter.widget-view+json" in shown for shown in kernel.shown)
    assert kernel.error is None
    kernel("rc.close()")


RICH = """%%px
from IPython.display import HTML, Markdown, display, update_display
import pandas, matplotlib.pyplot as plt
%matplotlib inline
display(HTML("<b>bold</b>"), Markdown("*it*"))
display(pandas.DataFrame({"a": [1]}))
plt.plot([1, 2])
plt.show()
handle = display("first", display_id=True)
handle.update("second")
{"text": 1}
"""


def test_rich_displays_arrive(kernel):
    kernel("%cluster start -n 1")
    kernel(RICH)
    assert kernel.error is None
    kinds = [kind for shown in kernel.shown for kind in shown]
    assert {"text/html", "text/markdown", "image/png"} <= set(kinds)
    assert any("<table" in shown.get("text/html", "") for shown in kernel.shown)
    assert "Out[0:1]: {'text': 1}" in kernel.printed


def test_cells_may_await(kernel):
    kernel("from ipkernel_ext import RemoteController, launch\nrc = launch(n=2)")
    kernel("import asyncio, time")
    assert kernel("await rc.apply(pow, 2, 3, block=False)") == "[8, 8]"
    cell = "first = rc.submit(time.sleep, 60)\ntry:\n    await asyncio.wait_for(first, 0.1)\nexcept TimeoutError:\n    "
    kernel(cell + "late = True")
    assert kernel("late, first.wait(20), first.cancelled()") == "(True, True, True)"
    kernel("rc.close()")
    assert kernel.error is None


def typed(kernel, cell, *lines):
    """Run a cell, and type these at its prompts; the prompts."""
    message = kernel.client.execute(cell, allow_stdin=True)
    prompts = []
    for line in lines:
        prompts.append(kernel.client.get_stdin_msg(timeout=40)["content"]["prompt"])
        kernel.client.input(line)
    kernel.take(message)
    return prompts


def test_the_debugger_of_an_engine_in_a_notebook(kernel):
    kernel("%cluster start -n 2")
    kernel("%px kept = 1")
    kernel("%px -t 1 1 / 0")
    assert kernel.error == "ZeroDivisionError"
    prompts = typed(kernel, "%pxdebug", "p kept + 1", "!kept = 7", "q")
    assert prompts == ["[1] ipdb> "] * 3
    assert kernel.error is None
    assert "2\n" in kernel.printed
    kernel("%pull kept")
    assert kernel("kept") == "[1, 7]"


def test_a_breakpoint_in_a_notebook(kernel):
    kernel("%cluster start -n 1")
    assert typed(kernel, "%px a = 1; breakpoint(); b = a + 1", "!a = 40", "c") == ["[0] ipdb> "] * 2
    kernel("%pull b")
    assert kernel("b") == "[41]"


def test_a_notebook_without_stdin_passes_breakpoints_over(kernel):
    kernel("%cluster start -n 1")
    kernel.take(kernel.client.execute("%px breakpoint(); b = 3", allow_stdin=False))
    assert kernel.error is None
    assert "the debugger ends: its client has no terminal" in kernel.printed


def test_displays_of_engines_are_changed_in_place(kernel):
    kernel("%cluster start -n 2")
    kernel("%px from IPython.display import display; handle = display('first', display_id='mine')")
    texts = [shown["text/plain"] for shown in kernel.shown]
    assert texts == ["'first'"] * 2
    ids = [id for _, id in kernel.places]
    assert len(set(ids)) == 2 and {kind for kind, _ in kernel.places} == {"display_data"}
    kernel("%px -t 1 handle.update('second')")
    assert kernel.places == [("update_display_data", next(id for id in ids if "[1]" in id))]
    assert [shown["text/plain"] for shown in kernel.shown] == ["'second'"]
    assert kernel.printed == ""


BAR = """%%px -t 0
import sys, threading
for percent in range(0, 100, 10):
    print(f"\\r{percent} % done", end="", file=sys.stderr, flush=True)
    threading.Event().wait(0.2)
print("\\r100 % done", file=sys.stderr)
"""


def test_a_progress_bar_of_an_engine_is_one_output_that_changes(kernel):
    kernel("%cluster start -n 1")
    kernel(BAR)
    shown = [text for text in (bundle.get("text/plain", "") for bundle in kernel.shown) if "% done" in text]
    assert len(shown) >= 2 and all(text.startswith("[0] ") for text in shown)
    assert len({id for _, id in kernel.places}) == 1
    assert kernel.printed == "[0] 100 % done\n"
