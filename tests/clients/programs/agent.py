"""A LangGraph workflow whose model needs no network.  What it does is in the question:

    count WORD...   the words, one after another
    wait            "begun", and "over" after somebody has asked to release
    release         those who wait
    for ever        tokens without end
    left            the questions of runs that were left before their end
    inside          what this program is made of
"""

import asyncio
from typing import TypedDict

from inside import inside
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    question: str
    task: str
    words: str
    answer: str


released = asyncio.Event()
left = []


async def plan(state):
    task, _, words = state["question"].partition(" ")
    return {"task": task, "words": words}


async def say(text):
    """As a model says it: token after token, each of which is an event."""
    return "".join([chunk.content async for chunk in FakeListChatModel(responses=[text]).astream("say it")])


async def answer(state):
    said = ""
    try:
        match state["task"]:
            case "count":
                said = await say(state["words"])
            case "wait":
                said = await say("begun")
                await released.wait()
                said += await say("over")
            case "release":
                released.set()
            case "for":
                while True:
                    said += await say("on and")
                    await asyncio.sleep(0)
            case "left":
                said = await say(" ".join(sorted(left)))
            case "inside":
                said = await say(inside())
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        left.append(state["question"])
        raise
    return {"answer": said}


builder = StateGraph(State)
builder.add_node("plan", plan)
builder.add_node("answer", answer)
builder.add_edge(START, "plan")
builder.add_edge("plan", "answer")
builder.add_edge("answer", END)
graph = builder.compile()
