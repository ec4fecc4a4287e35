"""An ASGI application: what the servers' tests serve."""

import os

from inside import inside


async def app(scope, receive, send):
    await {"lifespan": lifespan, "http": http}[scope["type"]](scope, receive, send)


async def lifespan(scope, receive, send):
    for event in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{event}"
        await send({"type": f"lifespan.{event}.complete"})


async def http(scope, receive, send):
    await {"/who": who, "/echo": echo, "/never": never}[scope["path"]](dict(scope["headers"]), receive, send)


async def begin(send, length):
    headers = [(b"content-length", b"%d" % length), (b"content-type", b"application/octet-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def who(headers, receive, send):
    """The process and what it is made of."""
    body = f"{os.getpid()} {inside()}".encode()
    await begin(send, len(body))
    await send({"type": "http.response.body", "body": body})


async def echo(headers, receive, send):
    """The request's body, as it comes; until the client goes away, if it does."""
    await begin(send, int(headers[b"content-length"]))
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def never(headers, receive, send):
    """No answer, until the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
