"""The loops that are compared: where each one's loop_factory is, and which of them are installed."""

import importlib
import importlib.metadata
import importlib.util
import platform

OURS = "asyncfast"

# name: (module, factory)
FACTORIES = {
    "asyncio": ("asyncio", "SelectorEventLoop"),
    "uvloop": ("uvloop", "new_event_loop"),
    "zuvloop": ("zuvloop", "new_event_loop"),
    "rloop": ("rloop", "new_event_loop"),
    "rsloop": ("rsloop", "new_event_loop"),
    "blazio": ("blazio", "new_event_loop"),
    OURS: ("asyncfast", "new_event_loop"),
}


def installed():
    return [name for name, (module, _) in FACTORIES.items() if importlib.util.find_spec(module)]


def factory(name):
    module, attribute = FACTORIES[name]
    return getattr(importlib.import_module(module), attribute)


def version(name):
    return platform.python_version() if name == "asyncio" else importlib.metadata.version(name)


def own(loop, name):
    """What asyncfast has of that name on asyncfast, what asyncio has on any other loop."""
    ours = type(loop).__module__.partition(".")[0] == OURS
    return getattr(importlib.import_module("asyncfast" if ours else "asyncio"), name)


def own_sleep(loop):
    return own(loop, "sleep")


def own_queue(loop):
    """(class, send, receive): asyncfast.Channel on asyncfast, asyncio.Queue on any other loop."""
    if type(loop).__module__.partition(".")[0] == OURS:
        channel = importlib.import_module("asyncfast").Channel
        return channel, channel.send, channel.receive
    queue = importlib.import_module("asyncio").Queue
    return queue, queue.put, queue.get
