"""Every recipe of the README is run by a test here."""

import re
from pathlib import Path


def test_no_recipe_is_left_out(written):
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    run = {name for names in re.findall(r"^@pytest\.mark\.recipes\((.*)\)$", tests, re.M) for name in re.findall(r'"(\w+)"', names)}
    assert run == set(written("shell"))
    assert set(written("py")) <= run
    assert all(len(lines) == 2 for language in ("shell", "py") for lines in written(language).values())
