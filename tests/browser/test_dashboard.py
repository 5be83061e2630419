"""The dashboard in a real browser, against a real cluster."""

import http.client
import http.server
import json
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from ipkernel_ext import launch
from ipkernel_ext.core import messages as m
from ipkernel_ext.dashboard.serving import Dashboard
from ipkernel_ext.dashboard.state import Facts
from ipkernel_ext.errors import TaskInterrupted
from tests.dashboard.fakes import FakeLooker

pytestmark = pytest.mark.timeout(180)

SLEEP = "import time\ntime.sleep(600)"


@pytest.fixture
def cluster():
    with launch(n=2) as rc:
        yield rc


@pytest.fixture
def opened(cluster, page):
    """The cluster's page."""
    page.goto(cluster.cluster.dashboard_url)
    expect(page.locator("#connection")).to_have_text("live")
    expect(row(page, 1)).to_be_visible()
    return page


def row(page, engine):
    return page.locator(f"#rows tr[data-id='{engine}']")


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


# ---------------------------------------------------------------- what is shown, and what clicks do


def test_what_runs_is_shown_and_a_click_interrupts_it(cluster, opened):
    result = cluster[0].execute(SLEEP, block=False)
    expect(row(opened, 0)).to_contain_text("busy")
    expect(row(opened, 0)).to_contain_text("import time")
    expect(opened.locator("#clients")).to_contain_text("import time")
    button(opened, "Interrupt engine 0").click()
    with pytest.raises(TaskInterrupted):
        result.get(30)
    expect(row(opened, 0)).to_contain_text("ready")
    expect(opened.locator("#latest tr").first).to_contain_text("TaskInterrupted")
    expect(opened.locator("#said")).to_have_text("interrupted engine 0")


def test_a_restart_asks_first_and_gives_a_new_process(cluster, opened):
    cluster.push({"a": 1})
    before = {engine.id: engine.boot for engine in cluster.known}
    opened.get_by_label("Select engine 1").check()
    button(opened, "Restart 1").click()
    expect(opened.locator("#question")).to_contain_text("Restart engine 1? Its variables are lost")
    button(opened, "Cancel").click()
    button(opened, "Restart 1").click()
    button(opened, "Restart").click()
    expect(opened.locator("#said")).to_have_text("restarted engine 1")
    after = {engine.id: engine.boot for engine in cluster.known}
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_scaling_up_and_down(cluster, opened):
    opened.get_by_label("Have engines").fill("3")
    button(opened, "Scale").click()
    expect(row(opened, 2)).to_be_visible()
    expect(opened.locator("#said")).to_have_text("the cluster has 3 engines")
    assert cluster.ids == [0, 1, 2]
    opened.get_by_label("Have engines").fill("1")
    button(opened, "Scale").click()
    expect(opened.locator("#question")).to_contain_text("End 2 engines")
    button(opened, "Cancel").click()
    assert len(cluster) == 3
    button(opened, "Scale").click()
    button(opened, "End them").click()
    expect(opened.locator("#said")).to_have_text("the cluster has 1 engine")
    expect(row(opened, 1)).to_be_hidden()
    assert cluster.ids == [0]


def test_what_the_cluster_refuses_is_said(cluster, opened):
    with opened.expect_response("**/restart"):
        opened.evaluate("act('restart', { engines: [77] }, 'restarting')")
    expect(opened.locator("#said")).to_contain_text("engine 77 does not exist")
    expect(opened.locator("#said")).to_have_attribute("data-state", "failed")


def test_tasks_that_ended_are_counted_and_listed(cluster, opened):
    def square(x):
        return x * x

    cluster.map(square, range(100), chunksize=1)
    expect(opened.locator("#stream-says")).to_contain_text("100 tasks ended")
    expect(opened.locator("#latest")).to_contain_text("square()")
    expect(opened.locator("#legend")).to_contain_text("square()")
    expect(opened.locator("#tile-done")).to_have_text("100 done")


def test_a_log_opens_and_is_searched(cluster, opened):
    opened.locator("#log").focus()
    expect(opened.locator("#log option", has_text="controller")).to_be_attached()
    opened.get_by_role("combobox", name="Log of").select_option("controller")
    expect(opened.locator("#lines")).to_contain_text("engine 1 is here")
    opened.get_by_label("Lines with").fill("ENGINE 0")
    expect(opened.locator("#lines")).not_to_contain_text("engine 1 is here")
    expect(opened.locator("#lines")).to_contain_text("engine 0 is here")


def test_a_cluster_that_ended_says_so(cluster, opened):
    cluster.shutdown()
    expect(opened.locator("#trouble, #connection[data-state=lost]").first).to_be_visible()


# ---------------------------------------------------------------- for everybody


def test_everything_is_reached_by_keyboard(opened):
    opened.evaluate("document.body.focus()")
    wanted = opened.evaluate(
        "[...document.querySelectorAll('a, button, input, select, [tabindex=\"0\"]')]"
        ".filter((one) => one.checkVisibility() && !one.disabled).length"
    )
    reached = set()
    for _ in range(wanted + 5):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert len(reached - {-1, opened.evaluate("[...document.querySelectorAll('*')].indexOf(document.body)")}) == wanted


def test_an_engine_is_interrupted_by_keyboard_alone(cluster, opened):
    result = cluster[1].execute(SLEEP, block=False)
    expect(row(opened, 1)).to_contain_text("busy")
    opened.get_by_label("Select engine 1").focus()
    opened.keyboard.press("Space")
    button(opened, "Interrupt 1").focus()
    opened.keyboard.press("Enter")
    with pytest.raises(TaskInterrupted):
        result.get(30)


def test_a_question_begins_at_no_and_ends_with_escape(cluster, opened):
    before = [engine.boot for engine in cluster.known]
    button(opened, "Restart engine 0").focus()
    opened.keyboard.press("Enter")
    expect(button(opened, "Cancel")).to_be_focused()
    opened.keyboard.press("Escape")
    expect(opened.locator("#sure")).to_be_hidden()
    expect(button(opened, "Restart engine 0")).to_be_focused()
    assert [engine.boot for engine in cluster.known] == before


def test_a_screen_reader_has_names_for_all(opened):
    nameless = opened.evaluate(
        "[...document.querySelectorAll('button, input, select')]"
        ".filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim())).map((one) => one.outerHTML)"
    )
    assert nameless == []
    assert opened.get_by_role("columnheader").count() > 15
    assert opened.get_by_role("rowheader").count() == 2
    expect(opened.get_by_role("heading", level=2, name="Engines", exact=True).first).to_be_visible()
    expect(opened.get_by_role("img", name="Task stream")).to_be_visible()
    assert opened.locator("html").get_attribute("lang") == "en"


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const against = ["card", "soft", "ground"].map((name) => light(ink(name)));
  const worst = (name) => Math.min(...against.map((b) => {
    const [low, high] = [light(ink(name)), b].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  }));
  return Object.fromEntries(["text", "muted", "accent", "bad"].map((name) => [name, worst(name)]));
}"""


def test_light_and_dark_can_both_be_read(opened):
    grounds = []
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        opened.evaluate("redraw()")
        for name, contrast in opened.evaluate(CONTRAST).items():
            assert contrast >= 4.5, (scheme, name)
        grounds.append(opened.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]
    opened.locator("#theme").click()
    expect(opened.locator("#theme")).to_have_text("Theme: light")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[0]


# ---------------------------------------------------------------- who is let in


def answered(url, path, method="GET", **headers):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.request(method, path, json.dumps({"engines": [0]}), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_who_is_not_let_in(cluster, page):
    url = cluster.cluster.dashboard_url
    result = cluster[0].execute(SLEEP, block=False)
    query, token = f"/?{urlsplit(url).query}", urlsplit(url).query.partition("=")[2]
    assert answered(url, query) == 200
    assert answered(url, "/") == 403
    assert answered(url, "/?token=wrong") == 403
    assert answered(url, query, Host="evil.example") == 403
    bearer = f"Bearer {token}"
    assert answered(url, "/interrupt", "POST", Authorization="Bearer wrong") == 403
    assert answered(url, "/interrupt", "POST", Authorization=bearer, Host="evil.example") == 403
    assert answered(url, "/interrupt", "POST", Authorization=bearer, Origin="http://evil.example") == 403
    assert answered(url, f"/interrupt{query[1:]}", "POST") == 403
    assert not result.done()
    page.goto(url.partition("?")[0])
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Open").click()
    expect(row(page, 1)).to_be_visible()
    cluster.interrupt()


def test_a_notebook_of_this_machine_embeds_it_and_no_other_page_does(cluster, page):
    with other_page(f"<!doctype html>{cluster.dashboard()._repr_html_()}") as port:
        page.goto(f"http://localhost:{port}/lab")
        expect(row(page.frame_locator("iframe"), 1)).to_be_visible()
        with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
            page.goto(f"http://evil.localhost:{port}/")
        assert row(page.frame_locator("iframe"), 1).count() == 0


@contextmanager
def other_page(text):
    """A page of another server; the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(20)


# ---------------------------------------------------------------- many engines


def crowd(cpu, at):
    """1,024 engines, of which ten use that much."""
    engines = [
        m.EngineRecord(f"b{i}", "here", 1000 + i, "3", i, cpu=cpu if i % 100 == 0 else 1.0, rss=40_000_000)
        for i in range(1024)
    ]
    controller = {"pid": 1, "host": "here", "started": 1000.0, "address": "ipc://x"}
    return Facts(at, controller, engines, {"unassigned": 0}, [], 0, (), at)


@contextmanager
def served(looker):
    dashboard = Dashboard(looker, "Many")
    thread = threading.Thread(target=dashboard.serve)
    thread.start()
    try:
        yield dashboard.url
    finally:
        dashboard.stop()
        thread.join(20)
        dashboard.close()


CHANGES = """() => new Promise((done) => {
  let changes = 0;
  new MutationObserver((seen) => (changes += seen.length)).observe(document.getElementById("rows"),
    { subtree: true, childList: true, characterData: true, attributes: true });
  const before = take;
  take = (message) => {
    before(message);
    if (message.engines) setTimeout(() => done([changes, JSON.stringify(message).length]), 50);
  };
})"""


def test_of_a_thousand_engines_only_what_changed_is_sent_and_drawn(page):
    looker = FakeLooker(crowd(2.0, 1.0))
    with served(looker) as url:
        page.goto(url)
        expect(page.locator("#page")).to_have_text("1 to 64 of 1,024 engines")
        assert page.locator("#rows tr").count() == 64
        assert page.evaluate("document.querySelectorAll('*').length") < 2500
        looker.facts = [crowd(2.0, 2.0), crowd(80.0, 3.0)]
        changes, size = page.evaluate(CHANGES)
        assert changes <= 4  # engine 0 is the only one of the ten on this page: its CPU and its bar
        assert size < 1000
        button(page, "Next").click()
        expect(row(page, 64)).to_be_visible()
        page.get_by_label("Find").fill("1023")
        expect(page.locator("#rows tr")).to_have_count(1)
        page.get_by_label("Find").fill("")
        page.locator("#wall").click(position={"x": 5, "y": 5})
        expect(row(page, 0)).to_be_visible()
        page.get_by_label("Select all engines").check()
        expect(button(page, "Interrupt 1024")).to_be_enabled()
