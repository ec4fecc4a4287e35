"""Events of LangGraph runs as server-sent events, by the example in docs/async-iterators.md."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "async-iterators.md"


@pytest.mark.recipes("langgraph", "httpx")
def test_langgraph(recipes, run, serve, here, site):
    app = re.search(r"^```py\n(# app\.py\n.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)[1]
    (here / "app.py").write_text(app, encoding="utf-8")
    command = f"{recipes['langgraph'].command} --port {site.port} {site.options('--ssl-certfile', '--ssl-keyfile')}"
    server = serve(command, site.env)
    of_server, of_client = run(recipes["httpx"].command, "events_client", site.env)
    site.check(of_server)
    server.stop()
