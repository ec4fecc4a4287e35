"""Clients of app.py of docs/async-iterators.md, at URL, over agent.py: each asks questions, and is sent the events of all."""

import asyncio
import contextlib
import json
import os
import ssl

import httpx
from agent import graph
from inside import inside

URL = os.environ["URL"]
TLS = ssl.create_default_context(cafile=os.environ["CERTIFICATE"]) if URL.startswith("https") else True


@contextlib.asynccontextmanager
async def asking(client, *questions):
    """The groups of events that the server sends."""
    async def groups(response):
        async for line in response.aiter_lines():
            if line:
                kind, _, data = line.partition(": ")
                assert kind == "data"
                yield json.loads(data)

    async with client.stream("GET", "/ask", params=[("question", question) for question in questions]) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        async with contextlib.aclosing(groups(response)) as answer:
            yield answer


async def ask(client, *questions):
    async with asking(client, *questions) as groups:
        return [group async for group in groups]


def said(groups, question=0):
    return "".join(text for group in groups for number, kind, name, text in group if number == question)


async def as_told_here(question):
    """The events that the server is to send for a question."""
    async def events():
        async for event in graph.astream_events({"question": question}, version="v2"):
            yield event["event"], event["name"], getattr(event["data"].get("chunk"), "content", "")

    return [event async for event in events()]


async def crowd(client):
    """Many clients at a time, each with several questions: all events of each question come, once and in order."""
    async def one(number):
        questions = [f"count {number} and {count} " + "more " * count for count in range(3)]
        groups = await ask(client, *questions)
        for count, question in enumerate(questions):
            got = [(kind, name, text) for group in groups for which, kind, name, text in group if which == count]
            assert got == await as_told_here(question)
            assert got[0][:2] == ("on_chain_start", "LangGraph") and got[-1][:2] == ("on_chain_end", "LangGraph")
            assert said(groups, count) == question.removeprefix("count ")
        assert all(1 <= len(group) <= 20 for group in groups)
        assert len(groups) * 2 < sum(map(len, groups))

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(one(number))


async def waits(client):
    """What there is of a run comes while the run waits."""
    got = []
    async with asking(client, "wait") as groups:
        while said(got) != "begun":
            got.append(await anext(groups))
        await ask(client, "release")
        got += [group async for group in groups]
    assert said(got) == "begunover"
    assert got[-1][-1][1:3] == ["on_chain_end", "LangGraph"]


async def leaves(client):
    """The runs of a client that leaves are ended: of one that has all it wants, and one that is cancelled as it waits."""
    async with asking(client, "for ever 1", "for ever 2") as groups:
        got = []
        while not (said(got, 0) and said(got, 1)):
            got.append(await anext(groups))

    begun = asyncio.Event()

    async def cancelled():
        async with asking(client, "wait 3", "for ever 4") as groups:
            got = []
            async for group in groups:
                got.append(group)
                if said(got, 0) and said(got, 1):
                    begun.set()

    task = asyncio.ensure_future(cancelled())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()

    while said(await ask(client, "left")) != "for ever 1 for ever 2 for ever 4 wait 3":
        pass


async def main():
    async with httpx.AsyncClient(base_url=URL, verify=TLS, timeout=None) as client:
        await leaves(client)
        await waits(client)
        await crowd(client)
        print(said(await ask(client, "inside")))
        print(inside())


asyncio.run(main())
