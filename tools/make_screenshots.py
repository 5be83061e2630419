"""The pictures of the documentation, taken of what they show: `make screenshots` writes docs/images/."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ipkernel_ext import RemoteController, launch
from tests.browser.conftest import CHROMIUM
from tests.browser.jupyter import Notebook, Server, answer

IMAGES = Path(__file__).parent.parent / "docs" / "images"
LARGEST = 150_000  # bytes of a picture
COLOURS = 256  # of a picture; pages have few
SCALE = 1.5  # pixels of a picture for one of the page, for screens with small ones
MARGIN = 8  # of the page's pixels below what is shown
STREAM = 25.0  # seconds of work that the dashboard's stream shows

FOLDED = [
    "%load_ext ipkernel_ext\n%cluster start -n 12",
    """part = list(range(50))
%scatter part""",
    """%%px
print("my part is here")
len(part)""",
    "%px 20 / (len(part) - 5)",
]

DEBUGGED = [
    "%load_ext ipkernel_ext\n%cluster start -n 4",
    """%%px
def share(total, parts):
    half = total / 2
    return half / (parts - 4)

share(10, 4)""",
    "%pxdebug 2",
]

PLOTS = [
    "%load_ext ipkernel_ext\n%cluster start -n 2\n%pxseed 7\n%px %matplotlib inline",
    """%%px --group-by engine
import matplotlib.pyplot as plt
import numpy as np
plt.figure(figsize=(6, 1.6))
plt.plot(np.random.randn(500).cumsum())
plt.show()""",
]


def prices(spot: float) -> float:
    """A task of the dashboard's picture."""
    return _busy(0.25 + spot % 0.2)


def simulate(path: float) -> float:
    """Another one."""
    return _busy(0.6 + path % 0.5)


def calibrate(item: float) -> float:
    """One that fails now and then."""
    seconds = _busy(0.4)
    if item % 7 == 3:
        raise ValueError("does not converge")
    return seconds


def _busy(seconds: float) -> float:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
    return seconds


def save(picture: bytes, name: str) -> None:
    """Write a picture, with few colours, so that it is small."""
    image = Image.open(BytesIO(picture)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    path = IMAGES / f"{name}.png"
    image.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(IMAGES.parent.parent)}: {image.width}×{image.height}, {size / 1000:.0f} kB")
    if size > LARGEST:
        raise SystemExit(f"{path} is larger than {LARGEST / 1000:.0f} kB")


@contextmanager
def page_of(browser: Browser, width: int, height: int, scheme: str = "light") -> Iterator[Page]:
    """An empty page of this size."""
    options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with browser.new_context(device_scale_factor=SCALE, **options) as context:
        yield context.new_page()


def cells(notebook: Notebook, first: int, last: int) -> bytes:
    """A picture of some of a notebook's cells."""
    page = notebook.page
    boxes = [notebook.cells.nth(number).bounding_box() for number in (first, last)]
    assert boxes[0] and boxes[1]
    top, left, width = boxes[0]["y"], boxes[0]["x"], boxes[0]["width"]
    bottom = boxes[1]["y"] + boxes[1]["height"]
    return page.screenshot(clip={"x": left, "y": top, "width": width, "height": bottom - top})


def take_notebooks(browser: Browser) -> None:
    """Pictures of cells in JupyterLab."""
    with tempfile.TemporaryDirectory() as directory, Server(Path(directory) / "jupyter") as server:
        for name, texts in (("px", FOLDED), ("plots", PLOTS)):
            with page_of(browser, 1200, 1200) as page:
                notebook = server.open(page, *texts)
                for number in range(len(texts)):
                    notebook.run(number)
                page.evaluate("document.activeElement.blur()")
                save(cells(notebook, 1 if name == "plots" else 0, len(texts) - 1), f"notebook-{name}")
                notebook.close()
        with page_of(browser, 1200, 1200) as page:
            notebook = server.open(page, *DEBUGGED)
            notebook.run(0)
            notebook.run(1)
            shown = notebook.begin(2)
            answer(shown, "p half")
            expect(shown.locator(".jp-Stdin-input")).to_have_count(1)
            save(cells(notebook, 1, 2), "notebook-debugger")
            answer(shown, "q")
            notebook.wait(2)
            notebook.close()


def take_dashboards(browser: Browser) -> None:
    """Pictures of the dashboard, light and dark, of a cluster at work."""
    with launch(n=6) as rc:
        url = rc.cluster.dashboard_url
        with page_of(browser, 1200, 900) as page:
            page.goto(url)
            expect(page.locator("#connection")).to_have_text("live")
            page.get_by_label("Span").select_option("20")
            work(rc)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.evaluate("redraw()")
                engines = page.locator("#engines").bounding_box()
                assert engines is not None
                bottom = engines["y"] + engines["height"] + MARGIN
                clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": bottom}
                save(page.screenshot(clip=clip), f"dashboard-{scheme}")
        rc.interrupt()


def work(rc: RemoteController) -> None:
    """Have the engines busy for a while, and leave them so."""
    until = time.monotonic() + STREAM
    while time.monotonic() < until:
        rc.map(prices, range(24), chunksize=1)
        rc.map(simulate, range(6), chunksize=1)
        with suppress(ValueError):
            rc.map(calibrate, range(10), chunksize=1)
    rc.map(simulate, range(600), chunksize=1, block=False)
    time.sleep(1.5)


def main() -> int:
    """Take all of them."""
    if CHROMIUM is None:
        print("there is no chromium; as root: apt-get install chromium", file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        take_notebooks(browser)
        take_dashboards(browser)
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
