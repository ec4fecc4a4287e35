"""What the benches share: the progress line, the machine, the Markdown file and the chart."""

import os
import platform
import re
import sys
import time
from pathlib import Path

import loops


def progress(done, total, begun, text, line):
    """On a terminal one line that changes; elsewhere a line now and then, when `line` is true."""
    if sys.stderr.isatty():
        left = (time.monotonic() - begun) / done * (total - done) if done else 0
        print(f"\r\033[K[{done}/{total}, {left:.0f} s left] {text}", end="", file=sys.stderr, flush=True)
    elif line:
        print(f"[{done}/{total}] {text}".rstrip(), file=sys.stderr, flush=True)


def say(text=""):
    """A line in place of the progress line; without a text it only goes away."""
    erase = "\r\033[K" if sys.stderr.isatty() else ""
    print(erase + text, end="\n" if text else "", file=sys.stderr, flush=True)


def machine():
    cpu = platform.processor() or platform.machine()
    try:
        cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1]
    except (OSError, TypeError):
        pass
    return f"{os.cpu_count()} x {cpu} ({platform.machine()}), {platform.system()} {platform.release()}"


def python():
    return f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"


def about(data, what):
    """The sentences below a table: what its numbers are, and where they were measured."""
    text = f"{what}, {data['date']}; {data['python']}; {data['machine']}; "
    text += ", ".join(f"{name} {version}" for name, version in data["versions"].items()) + "."
    if data["load"] > 0.5:
        text += f" The machine was not idle: load average {data['load']:.1f} at the start."
    return text


def write_markdown(path, text, mark):
    """Into the file's place between `mark`s if it has one, else as the whole file; "-" is standard output."""
    if path == "-":
        print(text, end="")
        return
    path = Path(path)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    place = re.compile(rf"(<!-- {mark} -->\n).*(<!-- /{mark} -->)", re.S)
    if place.search(old):
        text = place.sub(lambda m: f"{m[1]}\n{text}\n{m[2]}", old)
    path.write_text(text, encoding="utf-8")


def write_chart(path, titles, names, rows, unit, limit):
    """Bars for `rows`, a {name: value} for each of `titles`, on a log scale; `limit` is the name that is no loop."""
    try:
        import matplotlib
    except ImportError:
        sys.exit("--chart needs matplotlib: pip install matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    height = 0.8 / len(names)
    figure, axes = pyplot.subplots(figsize=(9, 1 + len(rows) * len(names) * 0.11), layout="constrained")
    for i, name in enumerate(names):
        values = [row.get(name, float("nan")) for row in rows]
        color = {loops.OURS: "black", limit: "lightgray"}.get(name)
        axes.barh([y + i * height for y in range(len(rows))], values, height, label=name, color=color)
    axes.set_yticks([y + 0.4 - height / 2 for y in range(len(rows))], [title.replace("`", "") for title in titles])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"{unit} (less is better; log scale)")
    axes.legend()
    figure.savefig(path, dpi=150)
