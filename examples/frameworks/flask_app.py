"""Flask: a region for each request, as an extension."""

from flask import Flask

from scopedbump import RegionPool, current_region
from scopedbump.flask import Scratch

app = Flask("service")
scratch = Scratch(app, RegionPool(size=1 << 28))  # or Scratch(pool=...) here, and scratch.init_app(app) later


@app.get("/")
def root() -> bytes:
    return bytes(current_region().copy(b"made in scratch memory"))


if __name__ == "__main__":
    assert app.test_client().get("/").data == b"made in scratch memory"
