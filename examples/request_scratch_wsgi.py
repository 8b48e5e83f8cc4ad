"""Read an upload straight into scratch memory, work on it there, and stream the answer.

    pip install scopedbump flask waitress
    python examples/request_scratch_wsgi.py
    curl --data-binary @photo.pgm http://127.0.0.1:8000/half -o half.pgm

or `gunicorn --chdir examples request_scratch_wsgi:app`. An upload is a grey PGM image (P5); the answer is the same at
half the width and height. The image lies in the request's region, and rows are taken from it without a copy in between.
The region ends when the server closes the response: after the last row was sent, or when the client has gone away.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import flask

from scopedbump import RegionPool, current_region
from scopedbump.wsgi import ScratchMiddleware

LIMIT = 64 << 20  # bytes of an upload

pool = RegionPool(size=2 * LIMIT, max_idle=8, retain=4 << 20, name="image")
app = flask.Flask(__name__)
app.wsgi_app = ScratchMiddleware(app.wsgi_app, pool)  # type: ignore[method-assign]  # as Flask's manual says


def read(size: int) -> memoryview:
    """The body of this request in scratch memory."""
    body = current_region().alloc(size, zero=False)
    filled = 0
    while filled < size:
        part = flask.request.stream.read(
            min(size - filled, 1 << 16)
        )  # all that PEP 3333 promises: there is no readinto
        if not part:
            flask.abort(400, "the upload is shorter than it says")
        body[filled : filled + len(part)] = part
        filled += len(part)
    return body


@app.post("/half")
def half() -> flask.Response:
    size = flask.request.content_length
    if size is None:
        flask.abort(411)
    if size > LIMIT:
        flask.abort(413)
    image = read(size)
    head = re.match(rb"P5\s+(\d{1,5})\s+(\d{1,5})\s+255\s", image)
    if head is None:
        flask.abort(400, "not a grey PGM image")
    width, height, start = int(head[1]), int(head[2]), head.end()
    if width * height != size - start or width < 2 or height < 2:
        flask.abort(400, "the image is not of the size that it says")
    row = current_region().alloc(width // 2)

    def rows() -> Iterator[bytes]:
        yield b"P5 %d %d 255\n" % (width // 2, height // 2)
        for number in range(0, height // 2 * 2, 2):
            above = start + number * width
            row[:] = image[above : above + width // 2 * 2 : 2]  # every second pixel of every second row
            yield bytes(row)  # WSGI wants bytes

    return flask.Response(rows(), mimetype="image/x-portable-graymap")


@app.get("/stats")
def stats() -> dict[str, int]:
    return pool.stats()._asdict()


if __name__ == "__main__":
    import waitress  # type: ignore[import-untyped]

    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
