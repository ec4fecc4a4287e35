"""The four situations that asyncfast grew from, each as a plain script, by ``python -m asyncfast`` and by the policy.

1. A coroutine function that is called gives a coroutine, not its result.
2. Awaiting a plain value is an error, unless it is asked for.
3. Tasks that wait go on side by side, in the order in which they were started.
4. ``async for`` takes events as they come, from a stream of one's own and from LangGraph.
"""

import asyncio
import collections.abc
import importlib.util
import inspect
import os
import subprocess
import sys
import textwrap
import threading

import pytest

import asyncfast

BY_POLICY = "import asyncio, asyncfast\nasyncio.set_event_loop_policy(asyncfast.EventLoopPolicy({}))\n"


@pytest.fixture(params=["command", "policy"])
def run(request, tmp_path):
    """``run(source, await_values=False)``: run a program both ways; return its output, errors and status."""
    def run(source, await_values=False):
        source = textwrap.dedent(source)
        if request.param == "command":
            args = ["-m", "asyncfast", *["--await-values"] * await_values, "program.py"]
        else:
            source = BY_POLICY.format("await_values=True" if await_values else "") + source
            args = ["-W", "ignore::DeprecationWarning", "program.py"]
        (tmp_path / "program.py").write_text(source, encoding="utf-8")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ASYNCFAST")}
        done = subprocess.run([sys.executable, *args], cwd=tmp_path, env=environ | {"PYTHONIOENCODING": "utf-8"},
                              capture_output=True, timeout=120, encoding="utf-8")
        return done.stdout, done.stderr, done.returncode
    return run


class TestCoroutineObject:
    def test_is_not_run_by_the_call(self, run):
        out, err, status = run("""
            async def brew():
                print("brewing")
                return "tea"

            print(brew())
        """)
        assert out.startswith("<coroutine object brew at 0x") and "brewing" not in out
        assert "RuntimeWarning: coroutine 'brew' was never awaited" in err and status == 0

    def test_gives_its_result_to_await(self, run):
        assert run("""
            import asyncio
            async def brew():
                return "tea"
            async def main():
                pending = brew()
                print(asyncio.iscoroutine(pending), await pending)
            asyncio.run(main())
        """) == ("True tea\n", "", 0)


class TestPlainValue:
    ADDING = """
        import asyncio

        async def adds():
            print("adds: start")
            print("adds:", await 2 * 3 + await 1)
            print("adds: end")

        async def waits():
            print("waits: start")
            await asyncio.sleep(0.01)
            print("waits: end")

        async def main():
            await asyncio.gather(adds(), waits())

        asyncio.run(main())
    """

    def test_is_an_error(self, run):
        out, err, status = run(self.ADDING)
        plain = "async def f(): await 2\ntry: f().send(None)\nexcept TypeError as error: print(error)"
        message = subprocess.run([sys.executable, "-c", plain], capture_output=True, encoding="utf-8").stdout.strip()
        assert (out, status) == ("adds: start\nwaits: start\n", 1)
        assert f"TypeError: {message}\n" in err

    def test_goes_on_at_once_when_asked_for(self, run):
        out = "adds: start\nadds: 7\nadds: end\nwaits: start\nwaits: end\n"
        assert run(self.ADDING, await_values=True) == (out, "", 0)

    VALUES = [0, True, 1.5, 2j, "text", b"bytes", bytearray(b"array"), (1,), [2], {3: 4}, {5}, frozenset({6}), range(7)]

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_of_each_kind_comes_back_itself(self, value):
        async def main():
            return await value
        assert asyncfast.run(main(), await_values=True) is value
        with pytest.raises(TypeError, match="await"):
            asyncfast.run(main())

    @pytest.mark.parametrize("value", [None, object(), len, int, type("Own", (), {})()], ids=repr)
    def test_of_another_kind_stays_an_error(self, value):
        async def main():
            await value
        with pytest.raises(TypeError, match="await"):
            asyncfast.run(main(), await_values=True)

    def test_is_no_awaitable(self):
        async def main():
            return isinstance(3, collections.abc.Awaitable), inspect.isawaitable(3)
        assert asyncfast.run(main(), await_values=True) == (False, False)

    def test_is_an_error_again_outside(self):
        """In another thread while the loop runs, in another loop, and after the loop has run."""
        async def value():
            return await 3

        def outcome(run):
            try:
                return run(value())
            except TypeError:
                return "TypeError"

        async def main():
            outcomes = []
            threads = [threading.Thread(target=lambda run=run: outcomes.append(outcome(run)))
                       for run in (lambda coro: coro.send(None), asyncfast.run, asyncio.run)]
            for thread in threads:
                thread.start()
                thread.join()
            return outcomes, await value()

        assert asyncfast.run(main(), await_values=True) == (["TypeError"] * 3, 3)
        assert [outcome(run) for run in (lambda coro: coro.send(None), asyncfast.run, asyncio.run)] == ["TypeError"] * 3

    def test_can_be_asked_for_by_the_environment(self, tmp_path):
        source = "import asyncio, asyncfast\nasync def main(): print(await 3)\nasyncfast.run(main())"
        environ = os.environ | {"ASYNCFAST_AWAIT_VALUES": "1"}
        done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, env=environ, capture_output=True,
                              encoding="utf-8")
        assert (done.stdout, done.stderr) == ("3\n", "")


class TestSideBySide:
    def test_downloads_start_together_and_end_in_order(self, run):
        assert run("""
            import asyncio

            async def fetch(name):
                print(f"📥 {name} begins")
                await asyncio.sleep(0.05)
                print(f"✅ {name} is here")

            async def pipeline():
                print("🛠️ pipeline begins")
                await fetch("map")
                print("✅ pipeline ends")

            async def main():
                await asyncio.gather(pipeline(), fetch("photo"))

            asyncio.run(main())
        """) == ("🛠️ pipeline begins\n📥 map begins\n📥 photo begins\n"
                 "✅ map is here\n✅ pipeline ends\n✅ photo is here\n", "", 0)


class TestEventStream:
    def test_of_ones_own(self, run):
        """Events come while others run, a generator that is left early is closed, and contexts hold."""
        assert run("""
            import asyncio, contextvars

            request = contextvars.ContextVar("request")

            class Stream:
                def __init__(self, tokens):
                    self.queue = asyncio.Queue(1)
                    self.task = asyncio.create_task(self.fill(tokens))

                async def fill(self, tokens):
                    for token in tokens:
                        await asyncio.sleep(0)
                        await self.queue.put(("token", token))
                    await self.queue.put(("end", request.get()))

                def __aiter__(self):
                    return self

                async def __anext__(self):
                    if self.task.done() and self.queue.empty():
                        raise StopAsyncIteration
                    return await self.queue.get()

            async def upper(stream):
                try:
                    async for kind, value in stream:
                        yield kind, value.upper()
                finally:
                    await asyncio.sleep(0)
                    print("closed")

            async def follow(name):
                request.set(name)
                async for kind, value in upper(Stream(["a", "b"])):
                    print(name, kind, value)

            async def main():
                await follow("first")
                async for event in upper(Stream("abc")):
                    print(event)
                    break
                await follow("last")

            request.set("main")
            asyncio.run(main())
        """) == ("first token A\nfirst token B\nfirst end FIRST\nclosed\n('token', 'A')\n"
                 "closed\nlast token A\nlast token B\nlast end LAST\nclosed\n", "", 0)

    @pytest.mark.skipif(not importlib.util.find_spec("langgraph"), reason="langgraph is not installed")
    def test_of_langgraph(self, run):
        out, err, status = run("""
            import asyncio
            from typing import TypedDict

            from langchain_core.language_models.fake_chat_models import FakeListChatModel
            from langgraph.graph import END, START, StateGraph

            class State(TypedDict):
                question: str
                answer: str

            model = FakeListChatModel(responses=["one token at a time"])

            async def answer(state):
                return {"answer": (await model.ainvoke(state["question"])).content}

            graph = StateGraph(State)
            graph.add_node("answer", answer)
            graph.add_edge(START, "answer")
            graph.add_edge("answer", END)

            async def main():
                text, kinds = "", []
                async for event in graph.compile().astream_events({"question": "how?"}, version="v2"):
                    kinds.append(event["event"])
                    if event["event"] == "on_chat_model_stream":
                        text += event["data"]["chunk"].content
                loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
                print(text, kinds[0], kinds[-1], loop, sep="\\n")

            asyncio.run(main())
        """)
        assert status == 0, err
        assert out.splitlines() == ["one token at a time", "on_chain_start", "on_chain_end", "asyncfast"]
