"""What pages are told: all at first, then differences; nobody looks while there is no page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from ipkernel_ext.core.messages import Ended, TaskId
from ipkernel_ext.dashboard import feed as feeding
from ipkernel_ext.dashboard.feed import MESSAGES, Feed
from tests.dashboard.fakes import FakeLooker, at

FAR = 1e9  # a look that is as fresh as can be


def run(test: Callable[[Feed, FakeLooker], Awaitable[None]], *facts) -> None:
    looker = FakeLooker(*facts)

    async def body() -> None:
        await asyncio.wait_for(test(Feed(looker.look), looker), 10)

    asyncio.run(body())


async def next_of(messages: AsyncIterator[str]) -> dict:
    return json.loads(await anext(messages))


def test_a_page_has_all_and_then_what_changed():
    async def test(feed, looker):
        messages = feed.messages()
        first = await next_of(messages)
        assert first["all"]
        assert first["engines"]["0"]["cpu"] == 1
        await feed.look()
        assert (await next_of(messages))["engines"] == {"0": {"cpu": 50}}
        await feed.look()
        assert "engines" not in await next_of(messages)
        await messages.aclose()

    run(test, at(1.0), at(2.0, 50.0), at(3.0, 50.0))


def test_a_page_that_comes_later_has_the_stream_and_the_rate_from_before():
    async def test(feed, looker):
        await feed.look()
        await feed.look()
        first = await next_of(feed.messages())
        assert first["rates"] == [[1.0, 0.0], [FAR, 0.0]] or first["rates"][0] == [1.0, 0.0]
        assert first["blocks"] == [[0, 1.0, 1.5, "f()", "ann", "", 1, "ann:3"]]

    task = Ended(1, TaskId("ann", 3), 0, "f()", 0.5, 101.5)
    run(test, at(1.0, 1.0, 1, task), at(FAR))


def test_the_rate_is_told():
    async def test(feed, looker):
        await feed.look()
        await feed.look()
        assert feed.everything()["cluster"]["rate"] == 20.0

    run(test, at(1.0, 1.0, 10), at(2.0, 1.0, 30))


def test_a_page_that_is_too_far_behind_has_all_again():
    async def test(feed, looker):
        messages = feed.messages()
        await next_of(messages)
        for _ in range(MESSAGES + 1):
            await feed.look()
        assert (await next_of(messages))["all"]
        await feed.look()
        assert "all" not in await next_of(messages)
        await messages.aclose()

    run(test, at(1.0))


def test_nobody_looks_while_there_is_no_page(monkeypatch):
    monkeypatch.setattr(feeding, "PERIOD", 0.0)

    async def test(feed, looker):
        running = asyncio.create_task(feed.run())
        for _ in range(20):
            await asyncio.sleep(0)
        assert looker.looks == 0
        messages = feed.messages()
        for _ in range(3):
            await next_of(messages)
        await messages.aclose()
        await asyncio.to_thread(lambda: None)
        async with feed._one:
            looks = looker.looks
        assert looks >= 3
        assert not feed._wanted.is_set()
        running.cancel()

    run(test, at(FAR))


def test_a_look_that_fails_is_not_the_last(monkeypatch, caplog):
    monkeypatch.setattr(feeding, "PERIOD", 0.0)

    async def test(feed, looker):
        messages = feed.messages()
        await next_of(messages)
        looker.facts = [None, at(3.0, 7.0)]
        running = asyncio.create_task(feed.run())
        assert (await next_of(messages))["engines"] == {"0": {"cpu": 7}}
        running.cancel()
        await messages.aclose()

    run(test, at(1.0))
    assert "a look at the cluster failed" in caplog.text
