"""What a program is made of while it runs: the programs print it, and the tests look at it."""

import asyncio
import gc


def inside():
    """The class of the loop, its TLS engine, and the classes of the transports and stream readers that there are."""
    loop = asyncio.get_running_loop()
    there = {type(obj) for obj in gc.get_objects()}
    classes = [cls for cls in there if issubclass(cls, (asyncio.BaseTransport, asyncio.StreamReader))]
    return " ".join([name(type(loop)), loop.tls_engine, *sorted(map(name, classes))])


def name(cls):
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
