"""Awaiting plain values: on for the loops that ask for it, and nowhere else does anything change.

What "nothing changes" means is asked of a Python that never saw asyncfast: ``PROBE`` runs there, and has to answer the
same, texts included, in every place where plain values are not to be awaited.
"""

import asyncio
import collections.abc
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import types

import pytest

import asyncfast

PROBE = textwrap.dedent("""
    import builtins, collections, collections.abc, enum, inspect, resource, sys

    values = [7, True, 1.5, 2j, "text", b"bytes", bytearray(b"array"), (), (1, 2), [3], {4: 5}, {6}, frozenset({7}),
              range(8), memoryview(b"view"), *([frozendict()] if hasattr(builtins, "frozendict") else [])]

    class Int(int): pass
    class Str(str): pass
    class Dict(dict): pass
    class Enum(enum.IntEnum): one = 1
    class Await(int):
        def __await__(self):
            return iter(())
    Named = collections.namedtuple("Named", "x")

    others = [None, object(), int, len, Int(7), Str("text"), Dict(), Enum.one, Await(7), Named(1),
              collections.OrderedDict(), collections.defaultdict(), collections.Counter(), collections.deque(),
              sys.version_info, sys.flags, resource.getrusage(resource.RUSAGE_SELF), inspect, ValueError()]

    class Has:
        asked = False
        def __init__(self, value): self.value = value
        def __aiter__(self): return self
        def __anext__(self):
            if self.asked: raise StopAsyncIteration
            self.asked = True
            return self.value

    class Enter(Has):
        def __aenter__(self): return self.value
        async def __aexit__(self, *args): return True

    class Exit(Has):
        async def __aenter__(self): return self.value
        def __aexit__(self, *args): return self.value

    async def awaits(value): return await value
    async def awaits_next(value): return await anext(Has(value))
    async def awaits_next_or(value): return await anext(Has(value), "default")
    async def comprehends(value): return [await v for v in [value]]
    async def generates(value):
        async def generator(): yield await value
        async for v in generator(): return v
    async def enters(value):
        async with Enter(value): pass
    async def enters_behind_many(value):
        # jumps and arguments that need more than one byte, before and around
        x = [value] * 300
        for i in range(3):
            if i == 2:
                async with Enter(x[299]): pass
    async def exits(value):
        async with Exit(value): pass
    async def exits_raising(value):
        async with Exit(value): 1 / 0
    async def iterates(value):
        async for v in Has(value): return v
    async def comprehends_async(value): return [v async for v in Has(value)]

    waits = [awaits, awaits_next, awaits_next_or, comprehends, generates]
    implies = [enters, enters_behind_many, exits, exits_raising, iterates, comprehends_async]

    def drive(coro):
        try:
            while True:
                coro.send(None)
        except BaseException as error:
            seen = []
            while error is not None and len(seen) < 4:
                seen.append(f"{type(error).__name__}: {error}")
                error = error.__cause__ or error.__context__
            return seen

    def probe(functions=(*waits, *implies)):
        seen = [[f.__name__, type(v).__name__, *drive(f(v))] for f in functions for v in (*values, *others)]
        for v in (*values, *others):
            t = type(v)
            seen.append([t.__name__, "__await__" in vars(t), hasattr(v, "__await__"), "__await__" in dir(v),
                         isinstance(v, collections.abc.Awaitable), issubclass(t, collections.abc.Awaitable),
                         inspect.isawaitable(v)])
        return seen
""")
SUBINTERPRETERS = textwrap.dedent("""
    try:
        import _interpreters
    except ImportError:
        import _xxsubinterpreters as _interpreters
    import json, os, sys

    def create(config):
        if sys.version_info >= (3, 13):
            return _interpreters.create(config)
        return _interpreters.create(isolated=config == "isolated")

    def execute(interpreter, source):
        result = (getattr(_interpreters, "exec", None) or _interpreters.run_string)(interpreter, source)
        assert result is None, result

    def evaluate(interpreter, setup, expression):
        "What the expression gives there, as JSON."
        read, write = os.pipe()
        source = f"{setup}\\nimport json, os\\n"
        source += f"with os.fdopen({write}, 'w') as out: json.dump({expression}, out)\\n"
        import threading
        parts = []
        with os.fdopen(read) as pipe:
            reader = threading.Thread(target=lambda: parts.append(pipe.read()))
            reader.start()
            execute(interpreter, source)
            reader.join()
        return json.loads(parts[0])
""")

probing = {"__name__": "probing"}
exec(PROBE, probing)


def python(source, *args, **environ):
    """What a program of its own prints, as JSON."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASYNCFAST")}
    done = subprocess.run([sys.executable, *args, "-c", source], env=clean | environ, capture_output=True,
                          timeout=120, encoding="utf-8", cwd=tempfile.gettempdir())   # not where the sources are
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain():
    """What a Python that never saw asyncfast answers to ``probe()``; and here the slots are in."""
    asyncfast.new_event_loop(await_values=True).close()
    return python(PROBE + "import json; print(json.dumps(probe()))")


def values():
    return pytest.mark.parametrize("value", probing["values"], ids=repr)


def outcome(run, coro):
    try:
        return run(coro)
    except TypeError:
        return "TypeError"


async def seven():
    return await 7


class TestOn:
    @values()
    @pytest.mark.parametrize("function", probing["waits"], ids=lambda f: f.__name__)
    def test_the_value_comes_back_itself(self, function, value):
        got = asyncfast.run(function(value), await_values=True)
        assert (got[0] if function.__name__ == "comprehends" else got) is value

    def test_without_a_trip_through_the_loop(self):
        async def main():
            seen = []
            asyncio.get_running_loop().call_soon(seen.append, "turn")
            total = 0
            for i in range(1000):
                total += await i
            at_once = list(seen)
            await asyncio.sleep(0)
            return total, at_once, seen
        assert asyncfast.run(main(), await_values=True) == (499500, [], ["turn"])

    def test_everything_else_is_as_ever(self, plain):
        """None and other objects, subclasses, classes made before and after; what is awaitable is."""
        names = [type(v).__name__ for v in probing["values"]]
        kinds = {f.__name__ for f in probing["waits"]}

        async def main():
            return probing["probe"]()
        seen = asyncfast.run(main(), await_values=True)
        given = [i for i, row in enumerate(seen) if row != plain[i]]
        assert len(given) == len(kinds) * len(names)
        assert {seen[i][0] for i in given} == kinds and all(seen[i][2].startswith("StopIteration: ") for i in given)

    def test_types_made_in_c_later_are_no_plain_values(self):
        """They inherit the slot, as heap types made in C do."""
        later = """
            import json
            {}
            import resource             # its struct_rusage is a tuple
            async def waits(): return await resource.getrusage(resource.RUSAGE_SELF)
            async def main():
                try: return list(await waits())
                except TypeError as error: return str(error)
            print(json.dumps([resource.struct_rusage.__base__.__name__, {}]))
        """
        plain = python(textwrap.dedent(later.format("import asyncio", "asyncio.run(main())")))
        assert plain[0] == "tuple" and "resource.struct_rusage" in plain[1]
        install = "import sys, asyncfast; asyncfast.new_event_loop(await_values=True).close()"
        install += "; assert 'resource' not in sys.modules"
        assert python(textwrap.dedent(later.format(install, "asyncfast.run(main(), await_values=True)"))) == plain
        assert python(textwrap.dedent(later.format(install, "asyncfast.run(main())"))) == plain

    def test_with_and_for_still_want_awaitables(self, plain):
        async def main():
            return probing["probe"](probing["implies"])
        seen = asyncfast.run(main(), await_values=True)
        assert seen == [row for row in plain if row[0] not in {f.__name__ for f in probing["waits"]}]

    def test_yield_from_is_another_matter(self):
        def generator():
            yield from 3

        @types.coroutine
        def coroutine():
            yield from 3

        async def main():
            with pytest.raises(TypeError, match="'int' object is not iterable"):
                next(generator())
            with pytest.raises(TypeError, match="'int' object is not iterable"):
                await coroutine()
        asyncfast.run(main(), await_values=True)

    def test_functions_that_want_an_awaitable_still_refuse(self):
        async def asked():
            loop = asyncio.get_running_loop()
            seen = []
            for f in (asyncio.ensure_future, asyncio.gather, asyncio.shield, asyncio.create_task, loop.create_task,
                      lambda v: asyncio.run_coroutine_threadsafe(v, loop)):
                with pytest.raises(TypeError) as error:
                    f(3)
                seen.append(str(error.value))
            return seen
        assert asyncfast.run(asked(), await_values=True) == asyncio.run(asked())
        with pytest.raises(TypeError), asyncfast.Runner(await_values=True) as runner:
            runner.get_loop().run_until_complete(3)

    def test_it_leaks_nothing(self):
        value = ["value"]

        async def main():
            before = sys.getrefcount(value)
            for _ in range(100):
                await value
            return sys.getrefcount(value) - before
        assert asyncfast.run(main(), await_values=True) == 0

    def test_what_the_frame_iterates_over(self):
        """Seen by debuggers at most: no awaitable, and nobody makes one."""
        kind = next(t for t in object.__subclasses__() if t.__name__ == "AwaitedValue")
        assert not issubclass(kind, collections.abc.Awaitable) and issubclass(kind, collections.abc.Iterator)
        with pytest.raises(TypeError):
            kind()

    @pytest.mark.parametrize("trace", ["settrace", "opcodes", "setprofile"])
    def test_with_tracers(self, trace, plain):
        def tracer(frame, event, arg):
            frame.f_trace_opcodes = trace == "opcodes"
            return tracer

        async def main():
            (sys.setprofile if trace == "setprofile" else sys.settrace)(tracer)
            try:
                return await 7, probing["drive"](probing["enters"](7)), probing["drive"](probing["awaits"](None))
            finally:
                sys.settrace(None)
                sys.setprofile(None)
        value, *errors = asyncfast.run(main(), await_values=True)
        rows = {tuple(row[:2]): row[2:] for row in plain if len(row) > 2}
        assert (value, errors) == (7, [rows["enters", "int"], rows["awaits", "NoneType"]])


class TestOff:
    """Everywhere else plain values are what they are in a Python without asyncfast."""

    def test_without_a_loop(self, plain):
        assert probing["probe"]() == plain

    @pytest.mark.parametrize("run", [asyncio.run, asyncfast.run], ids=["asyncio", "asyncfast"])
    def test_in_another_loop(self, run, plain):
        async def main():
            return probing["probe"]()
        assert run(main()) == plain

    def test_after_the_loop(self, plain):
        assert asyncfast.run(seven(), await_values=True) == 7
        assert probing["probe"]() == plain

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_after_the_loop_was_left_by_an_error(self, error):
        def fail():
            raise error
        loop = asyncfast.new_event_loop(await_values=True)
        loop.call_soon(fail)
        with pytest.raises(error):
            loop.run_forever()
        assert outcome(lambda coro: coro.send(None), seven()) == "TypeError"
        assert loop.run_until_complete(seven()) == 7
        loop.close()

    def test_in_another_thread_meanwhile(self, plain):
        async def main():
            loop = asyncio.get_running_loop()
            there = loop.run_in_executor(None, probing["probe"])
            while not there.done():
                assert await 7 == 7
                await asyncio.sleep(0)
            others = [await loop.run_in_executor(None, outcome, run, seven()) for run in (asyncio.run, asyncfast.run)]
            return await there, others
        assert asyncfast.run(main(), await_values=True) == (plain, ["TypeError"] * 2)

    def test_in_a_loop_within_the_loop(self):
        """As nest-asyncio and alike do it: the inner loop's own choice holds while it runs."""
        async def main():
            outer, seen = asyncio.get_running_loop(), []
            asyncio._set_running_loop(None)
            try:
                for asked in (False, True, False):
                    inner = asyncfast.new_event_loop(await_values=asked)
                    seen.append(outcome(inner.run_until_complete, seven()))
                    inner.close()
            finally:
                asyncio._set_running_loop(outer)
            return seen, await 7
        assert asyncfast.run(main(), await_values=True) == (["TypeError", 7, "TypeError"], 7)

    def test_loops_side_by_side_in_threads(self):
        rounds, seen = 200, {}

        async def main(asked):
            loop, good = asyncio.get_running_loop(), 0
            for _ in range(rounds):
                try:
                    good += (await 7 == 7) == asked
                except TypeError:
                    good += not asked
                await asyncio.sleep(0)
            seen[threading.get_ident(), asked] = good
        threads = [threading.Thread(target=lambda asked=asked: asyncfast.run(main(asked), await_values=asked))
                   for asked in (True, False) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(seen.values()) == [rounds] * len(seen) and {asked for _, asked in seen} == {True, False}


class TestAsking:
    PROGRAM = """
        import asyncio, asyncfast, json
        async def main(): return await 7
        try: print({})
        except TypeError: print('"TypeError"')
    """
    WAYS = {
        "run": "asyncfast.run(main(), await_values=True)",
        "runner": "asyncfast.Runner(await_values=True).run(main())",
        "loop": "asyncfast.new_event_loop(await_values=True).run_until_complete(main())",
        "policy": "asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy(await_values=True)) or asyncio.run(main())",
    }

    def ask(self, way, **environ):
        return python(textwrap.dedent(self.PROGRAM).format(way), "-W", "ignore", **environ)

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_by_argument(self, way):
        assert self.ask(way) == 7
        assert self.ask(way.replace("await_values=True", "")) == "TypeError"

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_by_environment(self, way):
        by_default = way.replace("await_values=True", "")
        assert self.ask(by_default, ASYNCFAST_AWAIT_VALUES="1") == 7
        assert self.ask(by_default, ASYNCFAST_AWAIT_VALUES="0") == "TypeError"
        assert self.ask(by_default, ASYNCFAST_AWAIT_VALUES="") == "TypeError"
        assert self.ask(way.replace("True", "False"), ASYNCFAST_AWAIT_VALUES="1") == "TypeError"

    def test_by_many_threads_at_once(self):
        assert python(textwrap.dedent("""
            import threading, asyncfast, json
            async def main(): return await 7
            start, seen = threading.Barrier(8), []
            def one():
                start.wait()
                seen.append(asyncfast.run(main(), await_values=True))
            threads = [threading.Thread(target=one) for _ in range(8)]
            for t in threads: t.start()
            for t in threads: t.join()
            print(json.dumps(seen))
        """)) == [7] * 8

    def test_types_with_async_methods_of_another_make_an_error(self):
        """Whoever got there first (a ctypes hack, another copy of asyncfast) stays; nothing is half done."""
        assert python(textwrap.dedent("""
            import asyncfast, ctypes, json
            # what Python prints of a type is where it is; tp_as_async is the word after tp_getattr and tp_setattr
            word = ctypes.sizeof(ctypes.c_void_p)
            offset = object.__basicsize__ + word + 3 * word + 4 * word
            slot = ctypes.c_void_p.from_address(id(list) + offset)
            theirs = (ctypes.c_void_p * 4)()
            assert slot.value is None
            slot.value = ctypes.addressof(theirs)
            try: asyncfast.new_event_loop(await_values=True)
            except RuntimeError as error: text = str(error)
            slot.value = None
            async def main(): return await [7]
            print(json.dumps([text, asyncfast.run(main(), await_values=True)]))
        """)) == ["await_values=True: something else has given 'list' async methods", [7]]


class TestSubinterpreters:
    """Each interpreter readies CPython's types for itself (3.12+): that must not give them an __await__."""

    def run(self, source):
        return python(SUBINTERPRETERS + f"PROBE = {PROBE!r}\n" + textwrap.dedent(source))

    @pytest.mark.parametrize("config", ["isolated", "legacy"])
    def test_made_before_and_after(self, config, plain):
        before, after, again, main = self.run(f"""
            import asyncfast
            async def seven(): return await 7
            seen = [create({config!r})]
            assert asyncfast.run(seven(), await_values=True) == 7
            seen += [create({config!r}), create({config!r})]
            seen = [evaluate(i, PROBE, "probe()") for i in seen]
            exec(PROBE)
            print(json.dumps([*seen, probe()]))
        """)
        assert before == plain
        assert after == plain
        assert again == plain
        assert main == plain

    def test_run_by_the_thread_whose_loop_runs(self, plain):
        there, here = self.run("""
            import asyncfast
            async def main():
                return evaluate(create("legacy"), PROBE, "probe()"), await 7
            print(json.dumps(asyncfast.run(main(), await_values=True)))
        """)
        assert (there, here) == (plain, 7)

    @pytest.mark.parametrize("first", [False, True])
    def test_with_a_loop_of_their_own(self, first, plain):
        there, off, here = self.run(f"""
            import asyncfast
            exec(PROBE)
            async def seven(): return await 7
            if {first}:
                asyncfast.run(seven(), await_values=True)
            i = create("isolated")
            setup = PROBE + "import asyncfast\\nasync def seven(): return await 7\\n"
            there = evaluate(i, setup, "asyncfast.run(seven(), await_values=True)")
            off = evaluate(i, "", "probe()")
            print(json.dumps([there, off, probe()]))
        """)
        assert (there, off, here) == (7, plain, plain)

    def test_made_by_many_threads_while_the_slots_go_in(self, plain):
        seen = self.run("""
            import asyncfast, threading
            start, seen = threading.Barrier(3), []
            def one():
                start.wait()
                for _ in range(5):
                    seen.append(evaluate(create("isolated"), PROBE, "probe(())"))
            threads = [threading.Thread(target=one) for _ in range(2)]
            for t in threads: t.start()
            start.wait()
            asyncfast.new_event_loop(await_values=True).close()
            for t in threads: t.join()
            print(json.dumps(seen))
        """)
        assert seen == [plain[-len(seen[0]):]] * 10
