"""The command line: `python -m scopedbump info`, `demo` and `run`."""

import argparse
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 1 when it could not do its work."""
    chosen = _parser().parse_args(arguments)
    if chosen.command == "run" and not chosen.compare:
        from ._cli import run

        return run.run(chosen)  # streams, signals and exceptions are the program's
    from . import ScopedBumpError
    from ._cli import compare, demo, info

    try:
        status = {"info": info.run, "demo": demo.run, "run": compare.run}[chosen.command](chosen)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ScopedBumpError, OSError) as error:
        print(f"scopedbump {chosen.command}: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser("python -m scopedbump", description="Scratch memory with a lifetime you can see.")
    parser.add_argument("--version", action="version", version=f"scopedbump {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{info,demo,run}")
    commands.add_parser("info", help="the system, its limits, and what a default region costs here")
    demo = commands.add_parser("demo", help="a region at work, in figures of this machine, in a few seconds")
    demo.add_argument("file", nargs="?", metavar="FILE", help="what its requests read; else one in memory")
    what = "a program as it is, with NumPy's memory in a region from its first line to its last"
    run = commands.add_parser("run", help=what, description=f"Run {what}.", allow_abbrev=False)
    run.add_argument("--size", type=size, default=1 << 30, metavar="N", help="bytes of the region; else 1 GiB")
    run.add_argument(
        "--min-bytes",
        type=count,
        default=1 << 17,
        metavar="N",
        help="the smallest block it serves; else 128 KiB",
    )
    run.add_argument("--compare", action="store_true", help="run it both ways, several times, and say what it gains")
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
    if count(text) == 0:
        raise argparse.ArgumentTypeError("0 is no size")
    return count(text)


if __name__ == "__main__":
    sys.exit(main())
