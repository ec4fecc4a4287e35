"""Programs that use a library, each on the server that it needs."""

import pytest

STREAMS = pytest.mark.parametrize("streams", ["asyncio", "asyncfast"])


@pytest.mark.recipes("aiohttp")
def test_aiohttp(recipes, run, serve, here, site):
    with open(here / "aiohttp_server.py", "a", encoding="utf-8") as file:
        file.write(recipes["aiohttp"].code)
    server = serve("python aiohttp_server.py", site.env)
    of_server, of_client = run(recipes["aiohttp"].command, "aiohttp_client", site.env)
    site.check(of_server)
    site.check(of_client)
    server.stop()


@pytest.mark.recipes("httpx", "uvicorn")
def test_httpx(recipes, run, serve, site, check_inside):
    """The client does TLS itself, the server leaves it to the loop."""
    command = f"{recipes['uvicorn'].command} --port {site.port} {site.options('--ssl-certfile', '--ssl-keyfile')}"
    server = serve(command, site.env)
    of_server, of_client = run(recipes["httpx"].command, "httpx_client", site.env)
    site.check(of_server.partition(" ")[2])
    check_inside(of_client)
    server.stop()


@pytest.mark.recipes("websockets")
def test_websockets(recipes, run, site):
    site.check(*run(recipes["websockets"].command, "websockets_both", site.env))


@pytest.mark.recipes("anyio")
def test_anyio(recipes, run):
    assert run(recipes["anyio"].command, "anyio_program", code="anyio.run(main)\n")[-1].startswith("asyncfast.Loop ")


@pytest.mark.recipes("anyio")
def test_anyio_that_is_told_the_loop(recipes, run):
    assert run("python program.py", "anyio_program", code=recipes["anyio"].code)[-1].startswith("asyncfast.Loop ")


@pytest.mark.recipes("asyncpg")
def test_asyncpg(recipes, run, postgres, check_inside):
    for env in postgres.values():
        check_inside(*run(recipes["asyncpg"].command, "asyncpg_client", env), tls=env.get("ASYNCFAST_TLS"))


@pytest.mark.recipes("redis")
@STREAMS
def test_redis(recipes, run, redis, streams, check_inside):
    for env in redis.values():
        env = env | {"ASYNCFAST_FAST_STREAMS": str(int(streams == "asyncfast"))}
        check_inside(*run(recipes["redis"].command, "redis_client", env), tls=env.get("ASYNCFAST_TLS"), streams=streams)
