"""Rules for any file of the project."""

import re

# Folders of the machine that something was made on: they mean nothing to anybody else.
MACHINE = re.compile(r"/(work|root|farm)/|/home/\w+/")
LONGEST = 1500


def text_of(path):
    data = path.read_bytes()
    return "" if b"\0" in data[:4096] else data.decode("utf-8", "replace")


def test_no_path_of_a_machine(checkout, files):
    bad = [f"{path}:{number}: {line.strip()}" for path in files
           for number, line in enumerate(text_of(checkout / path).splitlines(), 1) if MACHINE.search(line)]
    assert not bad


def test_no_source_grows_out_of_its_room(checkout, files):
    lines = {str(path): text_of(checkout / path).count("\n") for path in files
             if path.parts[0] in ("src", "asyncfast", "tests", "bench") and path.suffix in (".c", ".h", ".py", ".pyi")}
    assert not {path: count for path, count in lines.items() if count > LONGEST}


def test_no_tabs_and_no_trailing_blanks(checkout, files):
    bad = [f"{path}:{number}" for path in files if path.suffix in (".c", ".h", ".py", ".pyi", ".md", ".toml")
           for number, line in enumerate(text_of(checkout / path).split("\n"), 1) if "\t" in line or line != line.rstrip()]
    assert not bad
