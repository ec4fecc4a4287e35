"""The built module says what it takes (a docstring with a signature), and _core.pyi says the same names."""

import ast
import asyncio
import inspect
import sys
from pathlib import Path

import asyncfast
import asyncfast._core as core
import pytest

STUBS = Path(asyncfast.__file__).parent
METHODS = (type(str.join), type(dict.__dict__["fromkeys"]), staticmethod, classmethod, type(len))


def public(names):
    return {name for name in names if not name.startswith("_")}


def types():
    return {name: value for name, value in vars(core).items() if isinstance(value, type) and value.__module__.startswith("asyncfast")}


def members():
    """("where.name", object) of every public function of the module and every public method and attribute of its types."""
    for name, value in vars(core).items():
        if name in public(vars(core)) and callable(value) and not isinstance(value, type):
            yield f"_core.{name}", value
    for kind, cls in types().items():
        for name in public(vars(cls)):
            yield f"{kind}.{name}", vars(cls)[name]


def test_every_method_has_a_docstring_with_a_signature():
    bad = []
    for name, value in members():
        if isinstance(value, METHODS):
            value = getattr(value, "__func__", value)
            try:
                ok = value.__doc__ and value.__text_signature__ is not None and inspect.signature(value)
            except ValueError as error:  # it does not parse; what cannot be written in Python is spelled as CPython does
                ok, name = "=<unrepresentable>" in value.__text_signature__, f"{name}: {error}"
            if not ok:
                bad.append(name)
    assert not bad


def test_every_attribute_and_every_type_has_a_docstring():
    bad = [name for name, value in members() if not isinstance(value, METHODS) and not getattr(value, "__doc__", None)]
    bad += [name for name, cls in types().items() if not cls.__doc__]
    assert not bad


def declared(body):
    """Names to nodes in a stub's body, with its tests of sys.version_info and sys.platform decided."""
    found = {}
    for node in body:
        if isinstance(node, ast.If):
            test = eval(compile(ast.Expression(node.test), "stub", "eval"), {"sys": sys})
            found |= declared(node.body if test else node.orelse)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node  # of several overloads the last, which has to name every parameter
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname: node for alias in node.names if alias.asname}
    return found


def read(name):
    """The declarations of a stub, as installed beside the package."""
    return declared(ast.parse(STUBS.joinpath(name).read_text(encoding="utf-8")).body)


@pytest.fixture(scope="module")
def stub():
    return read("_core.pyi")


def inherited(stub, node):
    """What a stub's class says by naming its bases: classes of the same stub, or of asyncio."""
    names = set()
    for base in node.bases:
        base = ast.unparse(base).partition("[")[0]
        if base in stub:
            names |= public(declared(stub[base].body)) | inherited(stub, stub[base])
        elif base.startswith("asyncio."):
            names |= public(dir(getattr(asyncio, base.partition(".")[2])))
    return names


def arguments(node):
    """A stub function's parameter names without self or cls, the stars kept."""
    a = node.args
    names = [arg.arg for arg in (*a.posonlyargs, *a.args)]
    if names[:1] in (["self"], ["cls"]):
        del names[0]
    if a.vararg:
        names.append("*" + a.vararg.arg)
    names += sorted(arg.arg for arg in a.kwonlyargs)
    if a.kwarg:
        names.append("**" + a.kwarg.arg)
    return names


def parameters(function):
    """The same of a built function or method."""
    positional, keyword, last = [], [], []
    for name, p in inspect.signature(function).parameters.items():
        if p.kind is p.VAR_KEYWORD:
            last.append("**" + name)
        elif p.kind is p.KEYWORD_ONLY:
            keyword.append(name)
        else:
            positional.append("*" + name if p.kind is p.VAR_POSITIONAL else name)
    if positional[:1] in (["self"], ["type"], ["cls"]):
        del positional[0]
    return positional + sorted(keyword) + last


def test_the_stub_has_the_names_of_the_module(stub):
    # names with an underscore are the package's own affair, TypeVars and aliases of the stub begin with one
    assert public(stub) == public(vars(core))


def test_the_stub_has_the_members_of_each_type(stub):
    bad = []
    for name, cls in types().items():
        node = stub.get(name)
        if name.startswith("_"):
            continue
        if not isinstance(node, ast.ClassDef):
            bad.append(f"{name} is not a class in the stub")
            continue
        said = public(declared(node.body))
        bad += [f"{name}.{member} is not in the stub" for member in public(vars(cls)) - said - inherited(stub, node)]
        bad += [f"{name}.{member} is not in the module" for member in said if not hasattr(cls, member)]
    assert not bad


def test_the_stub_has_the_parameters_of_each_function(stub):
    bad = []
    for where, value in members():
        owner, name = where.split(".")
        node = stub.get(name) if owner == "_core" else owner in stub and declared(stub[owner].body).get(name)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and isinstance(value, METHODS):
            try:
                built = parameters(getattr(value, "__func__", value))
            except ValueError:
                continue  # another test's business
            said = arguments(node)
            if "**kwargs" in built and "**kwargs" not in said:  # the stub spells out what a version hands on
                keywords = {arg.arg for arg in node.args.kwonlyargs} | {"**kwargs"}
                built, said = ([name for name in names if name not in keywords] for names in (built, said))
            if built != said:
                bad.append(f"{where}: stub {said}, module {built}")
    assert not bad


def test_the_package_has_a_stub_of_the_same_names():
    said = read("__init__.pyi")
    assert public(said) | {"__version__"} == set(asyncfast.__all__)
    for name, node in said.items():
        if isinstance(node, ast.FunctionDef):
            assert parameters(getattr(asyncfast, name)) == arguments(node)


def methods_of_a_loop():
    return sorted(name for name in public(dir(asyncio.AbstractEventLoop)) if callable(getattr(asyncio.AbstractEventLoop, name)))


@pytest.mark.parametrize("name", methods_of_a_loop())
def test_a_method_of_the_loop_takes_what_asyncio_takes(name):
    """Against the loop that asyncio really has, which the abstract class sometimes lags behind."""
    theirs, ours = (inspect.signature(getattr(cls, name)) for cls in (asyncio.SelectorEventLoop, asyncfast.Loop))
    stars = any(p.kind is p.VAR_POSITIONAL for p in ours.parameters.values())

    kwargs = any(p.kind is p.VAR_KEYWORD for p in ours.parameters.values())

    def shape(signature):
        # before *args a keyword argument is of no use to a caller, so "positional only" does not matter there;
        # **kwargs stands for the keywords that some versions spell out
        return {p.name: (p.kind if not stars or p.kind > p.VAR_POSITIONAL else "positional", p.default)
                for p in list(signature.parameters.values())[1:] if not (kwargs and p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD))}

    assert shape(ours) == shape(theirs)
