"""Programs that use a library, each on the server that it needs."""

import pytest


@pytest.fixture(params=["http", "https"])
def site(request, port):
    """What a web server is told, and its client."""
    env = {"URL": f"{request.param}://127.0.0.1:{port}", "PORT": str(port)}
    if request.param == "https":
        env["CERTIFICATE"] = request.getfixturevalue("certificate")
    return env


@pytest.mark.recipes("aiohttp")
def test_aiohttp(recipes, run, serve, here, site):
    with open(here / "aiohttp_server.py", "a", encoding="utf-8") as file:
        file.write(recipes["aiohttp"].code)
    server = serve("python aiohttp_server.py", site)
    run(recipes["aiohttp"].command, "aiohttp_client", site)
    server.stop()


@pytest.mark.recipes("httpx", "uvicorn")
def test_httpx(recipes, run, serve, port, site):
    tls = f"--ssl-certfile {site['CERTIFICATE']}" if "CERTIFICATE" in site else ""
    server = serve(f"{recipes['uvicorn'].command} --port {port} {tls}")
    run(recipes["httpx"].command, "httpx_client", site)
    server.stop()


@pytest.mark.recipes("websockets")
def test_websockets(recipes, run, certificate):
    run(recipes["websockets"].command, "websockets_both", {"CERTIFICATE": certificate})


@pytest.mark.recipes("anyio")
def test_anyio(recipes, run):
    run(recipes["anyio"].command, "anyio_program", code="anyio.run(main)\n")


@pytest.mark.recipes("anyio")
def test_anyio_that_is_told_the_loop(recipes, run):
    run("python program.py", "anyio_program", code=recipes["anyio"].code)


@pytest.mark.recipes("asyncpg")
def test_asyncpg(recipes, run, postgres):
    for env in postgres.values():
        run(recipes["asyncpg"].command, "asyncpg_client", env)


@pytest.mark.recipes("redis")
@pytest.mark.parametrize("streams", ["asyncio", "asyncfast"])
def test_redis(recipes, run, redis, streams):
    for url in redis.values():
        run(recipes["redis"].command, "redis_client",
            {"URL": url, "STREAMS": streams, "ASYNCFAST_FAST_STREAMS": str(int(streams == "asyncfast"))})
