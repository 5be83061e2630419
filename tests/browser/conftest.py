"""A browser without a window, where the machine has one."""

import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LIMIT = 30_000  # milliseconds that something on a page may take to come


@pytest.fixture(scope="module")
def browser():
    """Chromium; on Debian, `apt-get install chromium`."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium; as root: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def others_page(browser):
    """An empty page for an application of others, whose scripts may raise what they want."""
    with browser.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce") as context:
        context.set_default_timeout(LIMIT)
        expect.set_options(timeout=LIMIT)
        yield context.new_page()


@pytest.fixture
def page(others_page):
    """An empty page; what its scripts raise fails the test."""
    raised = []
    others_page.on("pageerror", lambda error: raised.append(error))
    yield others_page
    assert not raised
