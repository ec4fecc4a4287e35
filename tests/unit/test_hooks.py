"""The names of asyncio's own classes that Loop overrides or relies on are still there in the running Python."""

import asyncio

import pytest

from asyncfast._loop import BASE_HOOKS, Loop

HOOKS = [(cls, name) for cls, names in BASE_HOOKS.items() for name in names]


@pytest.mark.parametrize("cls, name", HOOKS)
def test_hook_exists(cls, name):
    assert callable(getattr(getattr(asyncio, cls), name)), f"asyncio.{cls}.{name} is gone: see asyncfast/_loop.py"


@pytest.mark.parametrize("cls, name", HOOKS)
def test_hook_is_what_the_base_class_calls(cls, name):
    """An override that no base class calls any more would be dead without a word."""
    own = Loop.__dict__.get(name)
    assert own is None or own is not getattr(getattr(asyncio, cls), name)
