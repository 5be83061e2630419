"""JupyterLab, or the notebook alone, in a browser: a server on this machine, and notebooks as a user sees them."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nbformat
from playwright.sync_api import Locator, Page, expect

START = 40.0  # seconds in which the server must be there
FOLDERS = ("config", "data", "runtime", "settings", "workspaces", "notebooks", "ipython")

ARGUMENTS = [
    "-m",
    "jupyterlab",
    "--no-browser",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=0",
    "--ServerApp.allow_root=True",
    "--ServerApp.terminals_enabled=False",
    "--LabApp.extension_manager=readonly",
    "--LabApp.expose_app_in_browser=True",
    "--JupyterNotebookApp.expose_app_in_browser=True",
]

NAME = "notebook.ipynb"  # always, so that there is no other tab

PATHS = {"lab": "lab/tree", "notebook": "notebooks"}

READY = """async () => {
  const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
  if (!context) return false;
  await context.ready;
  return context.session?.kernel?.status === "idle";
}"""

END = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"


class Server:
    """A Jupyter server on the loopback interface, with a token and nothing of the user's own.

    Parameters
    ----------
    directory : Path
        Where it keeps its files.
    """

    def __init__(self, directory: Path) -> None:
        self._places = {name: directory / name for name in FOLDERS}
        self._token = secrets.token_hex(16)

    def __enter__(self) -> Self:
        for place in self._places.values():
            place.mkdir(parents=True)
        self._settle("apputils-extension", "notification", {"fetchNews": "false", "checkForUpdates": False})
        self._log = (self._places["runtime"] / "log").open("w+")
        arguments = [f"--IdentityProvider.token={self._token}", f"--ServerApp.root_dir={self._places['notebooks']}"]
        command = [sys.executable, *ARGUMENTS, *arguments]
        self._process = subprocess.Popen(command, env=self._environment(), stdout=self._log, stderr=self._log)
        try:
            self._url = self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def _environment(self) -> dict[str, str]:
        own = {f"JUPYTER_{name.upper()}_DIR": str(self._places[name]) for name in ("config", "data", "runtime")}
        lab = {f"JUPYTERLAB_{name.upper()}_DIR": str(self._places[name]) for name in ("settings", "workspaces")}
        return {**os.environ, **own, **lab, "IPYTHONDIR": str(self._places["ipython"])}

    def _settle(self, package: str, name: str, settings: dict[str, Any]) -> None:
        """Change settings of JupyterLab."""
        place = self._places["settings"] / "@jupyterlab" / package
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.jupyterlab-settings").write_text(json.dumps(settings))

    def _wait(self) -> str:
        """Wait until it is there; its address."""
        told = self._places["runtime"] / f"jpserver-{self._process.pid}.json"
        until = time.monotonic() + START
        while not (told.exists() and (url := _url_in(told.read_text()))):
            if self._process.poll() is not None or time.monotonic() > until:
                self._log.seek(0)
                raise RuntimeError(f"the Jupyter server did not start:\n{self._log.read()}")
            time.sleep(0.05)
        return url

    def open(self, page: Page, *cells: str, app: str = "lab") -> Notebook:
        """Open a new notebook of these cells in a page, and wait for its kernel."""
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(made, self._places["notebooks"] / NAME)
        page.goto(f"{self._url}{PATHS[app]}/{NAME}?token={self._token}")
        return Notebook(page)


def _url_in(text: str) -> str:
    """What the server has written about itself; "" while it still writes."""
    try:
        return str(json.loads(text)["url"])
    except json.JSONDecodeError:
        return ""


class Notebook:
    """A notebook that is open in a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.cells = page.locator(".jp-Notebook .jp-CodeCell")
        expect(self.cells.first).to_be_visible()
        page.wait_for_function(READY)

    def begin(self, number: int) -> Locator:
        """Run a cell as a user does, and do not wait; what is shown below it."""
        cell = self.cells.nth(number)
        cell.locator(".jp-InputArea .cm-content").click()
        self.page.keyboard.press("Control+Enter")
        return cell.locator(".jp-Cell-outputArea")

    def run(self, number: int) -> Locator:
        """Run a cell, and wait until it has ended; what is shown below it."""
        output = self.begin(number)
        self.wait(number)
        return output

    def wait(self, number: int) -> None:
        """Wait until a cell has ended."""
        expect(self.cells.nth(number).locator(".jp-InputArea-prompt")).to_have_text(re.compile(r"\[\d+\]:"))

    def interrupt(self) -> None:
        """Press the stop button."""
        self.page.locator("[data-command='notebook:interrupt-kernel']").first.click()

    def close(self) -> None:
        """End its kernel."""
        self.page.evaluate(END)


def answer(shown: Locator, line: str) -> None:
    """Type a line into the input field below a cell."""
    field = shown.locator(".jp-Stdin-input").element_handle()
    field.fill(line)
    field.press("Enter")
    field.wait_for_element_state("hidden")
