"""Builds floor/_floor.c for the running Python, beside its source: python bench/floor/build.py (needs setuptools)."""

import os
import tempfile
from pathlib import Path

from setuptools import Distribution, Extension

os.chdir(Path(__file__).resolve().parent)
with tempfile.TemporaryDirectory() as objects:
    extension = Extension("_floor", ["_floor.c"], extra_compile_args=["-O3"])
    command = Distribution({"name": "_floor", "ext_modules": [extension]}).get_command_obj("build_ext")
    command.inplace, command.build_temp, command.build_lib = True, objects, objects
    command.ensure_finalized()
    command.run()
