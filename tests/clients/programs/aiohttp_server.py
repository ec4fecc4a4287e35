"""An aiohttp server: echoes, streams, a websocket."""

import asyncio
import os
import ssl

from aiohttp import web
from inside import inside

options = {"port": int(os.environ["PORT"]), "handler_cancellation": True}
if "CERTIFICATE" in os.environ:
    options["ssl_context"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    options["ssl_context"].load_cert_chain(os.environ["CERTIFICATE"])


async def who(request):
    return web.Response(text=inside())


async def echo(request):
    """The request's body, as it comes."""
    response = web.StreamResponse()
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


async def never(request):
    await asyncio.get_running_loop().create_future()


async def websocket(request):
    """Every message comes back, until one says "close"."""
    ws = web.WebSocketResponse(max_msg_size=0)
    await ws.prepare(request)
    async for message in ws:
        if message.data == "close":
            await ws.close(code=4000)
        elif isinstance(message.data, str):
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)
    return ws


async def file(request):
    """This file: by sendfile where there is no TLS."""
    return web.FileResponse(__file__)


app = web.Application()
app.add_routes([web.get("/who", who), web.post("/echo", echo), web.get("/never", never), web.get("/websocket", websocket),
                web.get("/file", file)])
