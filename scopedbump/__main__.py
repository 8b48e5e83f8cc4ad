"""The command line: `python -m scopedbump info`, `demo`, `bench` and `run`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 1 when it could not do its work."""
    chosen = _parser().parse_args(arguments)
    if chosen.command == "run" and not chosen.compare:
        return _run(chosen)  # streams, signals and exceptions are the program's
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name need not fit the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(chosen)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("scopedbump: interrupted", file=sys.stderr)
        return 1


def _run(chosen: argparse.Namespace) -> int:
    from . import ScopedBumpError
    from ._cli.errors import CommandError

    # Each command brings in what it needs, and no more.
    if chosen.command == "info":
        from ._cli import info

        run = info.run
    elif chosen.command == "demo":
        from ._cli import demo

        def run() -> int:
            return demo.run(chosen.file)
    elif chosen.command == "run":
        return _run_program(chosen)
    else:
        from ._cli import bench

        def run() -> int:
            return bench.run(chosen.only, chosen.quick, chosen.json, chosen.svg)

    try:
        return run()
    except BrokenPipeError:
        raise
    except (CommandError, ScopedBumpError, OSError) as error:
        print(f"scopedbump {chosen.command}: {error}", file=sys.stderr)
        return 1


def _run_program(chosen: argparse.Namespace) -> int:
    from . import ScopedBumpError
    from ._cli import run
    from ._cli.errors import CommandError

    try:
        start = run.prepare(chosen)
        if chosen.compare:
            return start()
    except (CommandError, ScopedBumpError) as error:
        print(f"scopedbump run: {error}", file=sys.stderr)
        return 1
    return start()


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="python -m scopedbump", description="Scratch memory with a lifetime you can see."
    )
    parser.add_argument("--version", action="version", version=f"scopedbump {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{info,demo,bench,run}")
    commands.add_parser("info", help="the system, its limits, and what a default region costs here")
    demo = commands.add_parser(
        "demo",
        help="a region at work on a real file",
        description="Read a file through scratch buffers, deflate it with the system's libz, inflate it, and compare.",
    )
    demo.add_argument("file", nargs="?", metavar="FILE", help="what to work on; else a file that every Python has")
    bench = commands.add_parser(
        "bench",
        help="what it costs, against what a user would otherwise write",
        description="Measure each row against what a user would otherwise write, in turn, in one run.",
    )
    bench.add_argument("--only", metavar="PATTERN", help="the rows whose words contain it; * and ? as in file names")
    bench.add_argument("--quick", action="store_true", help="fewer and shorter rounds: rough figures in seconds")
    bench.add_argument("--json", action="store_true", help="print JSON instead of a table")
    bench.add_argument("--svg", metavar="FILE", help="also draw the ratios as a bar chart")
    _add_run(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="a program as it is, with NumPy's memory in a region",
        description="Run a program with NumPy's memory in a region from its first line to its last.",
        allow_abbrev=False,
    )
    run.add_argument("--size", type=int, default=1 << 30, metavar="N", help="bytes of the region; else 1 GiB")
    run.add_argument("--min-bytes", type=int, metavar="N", help="smaller blocks are left to NumPy; else 1 MiB")
    run.add_argument("--compare", action="store_true", help="run it both ways, several times, and say what it gains")
    run.add_argument("--report", help=argparse.SUPPRESS)  # where to write what was served
    run.add_argument("-m", dest="module", action="store_true", help="run a module, as python -m does")
    run.add_argument("program", metavar="SCRIPT | MODULE")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")


if __name__ == "__main__":
    sys.exit(main())
