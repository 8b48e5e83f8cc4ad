"""A region's blocks as a picture: `python examples/region_picture.py [FILE]`.

A debug region knows which line made each of its blocks, and draws them in the order in which they were made. A notebook
shows that by itself; a browser shows the file, and tells of the block under the pointer. Here it is the memory of one
request: an upload, the readings in it, a scope that sorted them and has ended (faded), and the answer.

The README shows what `python examples/region_picture.py examples/region.svg` made.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from scopedbump import Region, bump_region, debug

READING = struct.Struct("<If")
UPLOAD = b"".join(READING.pack(sensor * 7 % 48, sensor * 1.5) for sensor in range(48))


def split(body: memoryview, a: Region) -> Iterator[memoryview]:
    """The readings, each in a block of its own."""
    for at in range(0, len(body), READING.size):
        yield a.copy(body[at : at + READING.size])


def by_sensor(readings: list[memoryview], a: Region) -> list[int]:
    """In which order they come when they are sorted. What that takes is given back at once."""
    with a.scope() as scratch:
        keys = scratch.array("I", len(readings))
        for index, reading in enumerate(readings):
            keys[index] = READING.unpack(reading)[0]
        return sorted(range(len(keys)), key=keys.__getitem__)


def answer(upload: bytes, a: Region) -> memoryview:
    """A line of text for each reading, by sensor."""
    readings = list(split(a.copy(upload), a))
    lines = [b"%d %.1f\n" % READING.unpack(readings[index]) for index in by_sensor(readings, a)]
    return a.copy(b"".join(lines))


def main(path: Path) -> None:
    """Answer a request in a debug region, and draw what was in its memory."""
    with bump_region(1 << 24, name="request", debug=True) as a:
        text = answer(UPLOAD, a)
        path.write_text(debug.svg(a) + "\n", encoding="utf-8")
        print(f"an answer of {len(text)} bytes, and {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "region.svg"))
