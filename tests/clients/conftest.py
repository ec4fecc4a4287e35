"""What the tests of real programs share.

Each test runs recipes of the README, as they stand there, on real servers that it starts itself.  The programs in
programs/ are plain asyncio's; it is the recipe that puts them on asyncfast.  A test names its recipes in a mark; without
the packages that their install lines name it is skipped, or fails if ASYNCFAST_REQUIRE_CLIENTS is set.
"""

import contextlib
import glob
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path

import asyncfast
import pytest
from asyncfast import _tls
from packaging.requirements import Requirement

PROGRAMS = Path(__file__).parent / "programs"
README = Path(__file__).parents[2] / "README.md"
REQUIRED = os.environ.get("ASYNCFAST_REQUIRE_CLIENTS", "0") != "0"
DEADLINE = 30  # seconds, for what takes one or two
#: variables by which a developer's shell would tell programs something
OF_PROGRAMS = re.compile("PYTHON|ASYNCFAST_[AFT]|PG|REDIS|UVICORN|GUNICORN|XDG|.*_PROXY$", re.I)


def missing(what):
    (pytest.fail if REQUIRED else pytest.skip)(f"{what} is not installed")


# -- recipes

def written(language):
    """The README's recipes in *language*: the comment above each, up to a comma, to its lines."""
    section = README.read_text(encoding="utf-8").partition("\n## Recipes\n")[2].partition("\n## ")[0]
    text = re.search(rf"^```{language}\n(.*?)\n```$", section, re.M | re.S)[1]
    entries = (entry.split("\n") for entry in text.split("\n\n"))
    return {title.removeprefix("# ").partition(",")[0]: lines for title, *lines in entries}


class Recipe:
    """What the README says of *name*: the packages to install, the command to run, and the code if there is any."""

    def __init__(self, name):
        install, self.command = written("shell")[name]
        pip, verb, *packages = shlex.split(install)
        assert (pip, verb) == ("pip", "install")
        self.packages = [Requirement(package) for package in packages]
        self.code = "".join(f"{line}\n" for line in written("py").get(name, ()))


@pytest.fixture(name="written")
def written_fixture():
    return written


def installed(requirement):
    try:
        return metadata.version(requirement.name) in requirement.specifier
    except metadata.PackageNotFoundError:
        return False


def pytest_configure(config):
    config.addinivalue_line("markers", "recipes(name, ...): the recipes of the README that the test runs")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip before any server is started."""
    marker = item.get_closest_marker("recipes")
    item.recipes = {name: Recipe(name) for name in marker.args} if marker else {}
    for recipe in item.recipes.values():
        for requirement in recipe.packages:
            if not installed(requirement):
                missing(requirement)


@pytest.fixture
def recipes(request):
    """Name to Recipe, of those in the test's mark."""
    return request.node.recipes


# -- processes

def until(condition, program):
    """Wait until condition() is true; fail if the program ends before."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert program.poll() is None, f"exit status {program.returncode}\n{program.output}"
        assert time.monotonic() < end, program.output
        time.sleep(0.02)


def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def executable(name):
    """The file that a recipe's first word stands for, with the Python that runs the tests."""
    return sys.executable if name == "python" else shutil.which(name, path=sysconfig.get_path("scripts")) or name


class Program(subprocess.Popen):
    """A program; `output` is what it has printed so far."""

    def __init__(self, command, folder, env=(), **kwargs):
        name, *args = shlex.split(command)
        environ = {k: v for k, v in os.environ.items() if not OF_PROGRAMS.match(k)}
        environ |= {k: os.environ[k] for k in ("PYTHONPATH", "PYTHONMALLOC") if k in os.environ}
        environ |= {"PYTHONFAULTHANDLER": "1", "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)} | dict(env)
        log, self.log = tempfile.mkstemp(".log", dir=folder)
        with open(log, "wb"):
            super().__init__([executable(name), *args], cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=log,
                             stderr=subprocess.STDOUT, **kwargs)

    @property
    def output(self):
        return Path(self.log).read_text(encoding="utf-8", errors="replace")

    def finish(self, *statuses):
        """Wait for its end, which must be one of *statuses*; nothing may have gone wrong on the way."""
        try:
            self.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end\n{self.output}")
        assert self.returncode in statuses, f"exit status {self.returncode}\n{self.output}"
        assert not re.search("Traceback|never retrieved|never awaited|was destroyed", self.output), self.output

    def stop(self, signum=signal.SIGTERM):
        """Have a server shut down in good order: it may say by its status that the signal ended it."""
        self.send_signal(signum)
        self.finish(0, -signum)

    def kill(self):
        """End it, and its workers, if they are still there."""
        if self.poll() is None:
            workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            super().kill()
            for pid in map(int, workers):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.wait()


@pytest.fixture
def start():
    """start(command, folder, env) starts a program; what is left of it at the end of the test is killed."""
    programs = []

    def start(*args, **kwargs):
        programs.append(Program(*args, **kwargs))
        return programs[-1]

    yield start
    for program in reversed(programs):
        program.kill()


@pytest.fixture
def here(tmp_path):
    """The folder in which the test's programs run, with all of programs/ in it."""
    return shutil.copytree(PROGRAMS, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def run(start, here):
    """run(command, name, env, code) runs NAME.py, and the code after it, as program.py, to its good end; the lines of its
    output."""
    def run(command, name, env=(), code=""):
        (here / "program.py").write_text((here / f"{name}.py").read_text(encoding="utf-8") + code, encoding="utf-8")
        program = start(command, here, env)
        program.finish(0)
        return program.output.splitlines()

    return run


@pytest.fixture
def serve(start, here, port):
    """serve(command, env) starts a server that listens on `port`."""
    def serve(command, env=()):
        server = start(command, here, env)
        until(lambda: listening(port), server)
        return server

    return serve


@contextlib.contextmanager
def reserved_port():
    """A port of 127.0.0.1 which the kernel gives to nobody, as it is bound here; the test's server can listen on it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def port():
    with reserved_port() as number:
        yield number


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A file with a key and a certificate of localhost, signed by itself."""
    if not shutil.which("openssl"):
        missing("openssl")
    path = tmp_path_factory.mktemp("certificate") / "localhost.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", path, "-out", path.with_suffix(".crt")],
                   check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


# -- what programs are made of

ENGINES = ("direct", "portable")


def by_engine(name):
    """What a program's environment says to have TLS by this engine."""
    if name == "direct" and _tls.why_not_direct():
        missing("an OpenSSL that can be called directly")
    return {"ASYNCFAST_TLS": name}


def check_inside(line, tls=None, streams=None):
    """A line of inside.py: everything is asyncfast's, with TLS by that engine or without any, and with that module's
    streams, if streams are in use."""
    loop, engine, *classes = line.split()
    assert loop == "asyncfast.Loop", line
    assert not re.search(r" asyncio\._(Selector|SSL|Unix(Read|Write))", line), line
    assert "asyncfast.SocketTransport" in classes, line
    assert (engine if "asyncfast.SSLTransport" in classes else None) == tls, line
    if streams:
        assert {cls for cls in classes if cls.endswith(".StreamReader")} == {f"{streams}.StreamReader"}, line


@pytest.fixture(name="check_inside")
def check_inside_fixture():
    return check_inside


class Site:
    """Where a web server listens: plain, or over TLS by one of the engines, on both sides."""

    def __init__(self, port, engine=None, certificate=None):
        self.port, self.engine, self.certificate = port, engine, certificate
        self.streams = None     # the module whose streams the server is to have, if it has any
        self.env = {"URL": f"{'https' if engine else 'http'}://127.0.0.1:{port}", "PORT": str(port)}
        if engine:
            self.env |= {"CERTIFICATE": str(certificate)} | by_engine(engine)

    def options(self, certificate, key):
        """A server's options, which are called so."""
        return f"{certificate} {self.certificate} {key} {self.certificate}" if self.engine else ""

    def run(self, main):
        """Run a client here."""
        return asyncfast.run(main, loop_factory=lambda: asyncfast.new_event_loop(tls=self.engine))

    async def connect(self):
        """A pair of streams."""
        tls = ssl.create_default_context(cafile=self.certificate) if self.engine else None
        return await asyncfast.open_connection("127.0.0.1", self.port, ssl=tls)

    def check(self, line):
        check_inside(line, self.engine, self.streams)


@pytest.fixture(params=["plain", *ENGINES])
def site(request, port):
    if request.param == "plain":
        return Site(port)
    return Site(port, request.param, request.getfixturevalue("certificate"))


# -- the servers of clients

@pytest.fixture
def folder():
    """A folder that a server may have as its own; pytest's are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="asyncfast-clients-") as name:
        yield Path(name)


def tool_of_postgres(name):
    """Debian keeps them out of PATH."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*places, os.environ["PATH"]])) or missing(f"PostgreSQL's {name}")


@pytest.fixture
def postgres(start, folder, port, certificate):
    """PostgreSQL, as somebody who is not root: what clients are told over "tcp" and "unix", and over TLS for each engine."""
    initdb, server = tool_of_postgres("initdb"), tool_of_postgres("postgres")
    user = "nobody" if os.geteuid() == 0 else None
    key = shutil.copy(certificate, folder / "key.pem")
    os.chmod(key, 0o600)
    if user:
        shutil.chown(folder, user)
        shutil.chown(key, user)
    start(f"{initdb} -D data -U postgres -E UTF8 --no-locale --auth=trust --no-sync", folder, user=user).finish(0)
    program = start(f"{server} -D data -k {folder} -h 127.0.0.1 -p {port} -c fsync=off "
                    f"-c ssl=on -c ssl_cert_file={key} -c ssl_key_file={key}", folder, user=user)
    until(lambda: "ready to accept connections" in program.output, program)
    common = {"PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": "postgres"}
    tls = common | {"PGHOST": "127.0.0.1", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(certificate)}
    yield {
        "tcp": common | {"PGHOST": "127.0.0.1", "PGSSLMODE": "disable"},
        "unix": common | {"PGHOST": str(folder)},
    } | {
        engine: tls | by_engine(engine) for engine in ENGINES
    }
    program.stop(signal.SIGINT)


@pytest.fixture
def redis(start, folder, port, certificate):
    """Redis: what clients are told over "tcp" and "unix", and over TLS for each engine."""
    server = shutil.which("redis-server") or missing("redis-server")
    path = folder / "socket"
    with reserved_port() as tls:
        program = start(f"{server} --bind 127.0.0.1 --port {port} --unixsocket {path} --save '' --tls-port {tls} "
                        f"--tls-cert-file {certificate} --tls-key-file {certificate} --tls-auth-clients no", folder)
        until(lambda: listening(port) and listening(tls) and path.exists(), program)
        over_tls = {"URL": f"rediss://127.0.0.1:{tls}?ssl_ca_certs={certificate}"}
        yield {
            "tcp": {"URL": f"redis://127.0.0.1:{port}"},
            "unix": {"URL": f"unix://{path}"},
        } | {
            engine: over_tls | by_engine(engine) for engine in ENGINES
        }
        program.stop()
