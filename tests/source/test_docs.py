"""What the README and docs/ show is run, and what the documents say of files is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
README = CHECKOUT / "README.md"
ITERATORS = CHECKOUT / "docs" / "async-iterators.md"


def blocks(language, document=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.M | re.S)


def run(*args, cwd, **environ):
    return subprocess.run([sys.executable, *args], cwd=cwd, env=os.environ | environ, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.strip().splitlines()[-1][:40])
def test_a_python_block_of_the_readme_runs(block, tmp_path):
    run_block(block, tmp_path)


@pytest.mark.parametrize("block", blocks("python", ITERATORS))
@pytest.mark.parametrize("run", ["asyncfast.run", "asyncio.run"])
def test_a_python_block_of_the_page_on_iterators_runs(block, run, tmp_path):
    """On asyncio's own loop too, as it says."""
    assert "asyncfast.run(main())" in block
    run_block("import asyncio\n" + block.replace("asyncfast.run(main())", f"{run}(main())"), tmp_path)


def run_block(block, tmp_path):
    (tmp_path / "block.py").write_text(block, encoding="utf-8")
    done = run("block.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_readme_has_python_blocks():
    assert len(blocks("python")) >= 5 and len(blocks("python", ITERATORS)) >= 7


def test_the_readme_has_two_lines_to_paste():
    install, test = blocks("sh")
    assert install.count("\n") == test.count("\n") == 1
    assert "pip install ." in install and "examples/hello.py" in install
    assert "pip install '.[test]'" in test and test.rstrip().endswith("pytest")


def test_hello_runs(tmp_path):
    done = run(str(CHECKOUT / "examples" / "hello.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("hello from asyncfast")


def test_relative_links_lead_somewhere():
    bad = []
    for document in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if not (document.parent / link).exists():
                bad.append(f"{document.name}: {link}")
    assert not bad
