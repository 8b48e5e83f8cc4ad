"""The command line: `python -m scopedbump info`, `demo` and `run`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 1 when it could not do its work."""
    chosen = _parser().parse_args(arguments)
    if chosen.command == "run" and not chosen.compare:
        start = _program(chosen)
        return 1 if start is None else start()  # streams, signals and exceptions are the program's
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name need not fit the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _command(chosen)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("scopedbump: interrupted", file=sys.stderr)
        return 1


def _program(chosen: argparse.Namespace) -> Callable[[], int] | None:
    """What runs the program; None after saying why it can't be run."""
    from . import ScopedBumpError
    from ._cli import run

    try:
        return run.prepare(chosen)
    except ScopedBumpError as error:
        print(f"scopedbump run: {error}", file=sys.stderr)
        return None


def _command(chosen: argparse.Namespace) -> int:
    from . import ScopedBumpError

    try:  # each brings in what it needs, and no more
        if chosen.command == "info":
            from ._cli import info

            return info.run()
        if chosen.command == "demo":
            from ._cli import demo

            return demo.run(chosen.file)
        from ._cli import compare

        return compare.run(chosen)
    except BrokenPipeError:
        raise
    except (ScopedBumpError, OSError) as error:
        print(f"scopedbump {chosen.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="python -m scopedbump", description="Scratch memory with a lifetime you can see."
    )
    parser.add_argument("--version", action="version", version=f"scopedbump {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{info,demo,run}")
    commands.add_parser("info", help="the system, its limits, and what a default region costs here")
    demo = commands.add_parser("demo", help="a region at work, in figures of this machine, in a few seconds")
    demo.add_argument("file", nargs="?", metavar="FILE", help="what its requests read; else a file made for it")
    run = commands.add_parser(
        "run",
        help="a program as it is, with NumPy's memory in a region",
        description="Run a program with NumPy's memory in a region from its first line to its last.",
        allow_abbrev=False,
    )
    run.add_argument("--size", type=size, default=1 << 30, metavar="N", help="bytes of the region; else 1 GiB")
    run.add_argument("--min-bytes", type=count, metavar="N", help="smaller blocks are left to NumPy; else 128 KiB")
    run.add_argument("--compare", action="store_true", help="run it both ways, several times, and say what it gains")
    run.add_argument("--report", help=argparse.SUPPRESS)  # where to write what was served
    run.add_argument("-m", dest="module", action="store_true", help="run a module, as python -m does")
    run.add_argument("program", metavar="SCRIPT | MODULE")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")
    return parser


def count(text: str) -> int:
    """A number of bytes; argparse says the name of this function of what is none."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def size(text: str) -> int:
    """A number of bytes that is not 0."""
    number = count(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{number} is no size")
    return number


if __name__ == "__main__":
    sys.exit(main())
