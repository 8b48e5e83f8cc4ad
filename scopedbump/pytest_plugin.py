"""pytest plugin: a test in which C goes past its buffer fails, and the others go on.

    pytest --scopedbump-debug            every region is a debug region
    scopedbump_debug = true              the same, as an ini option
    @pytest.mark.scopedbump(debug=True)  for this test; debug=False for this test not
    @pytest.mark.scopedbump(escapes=True)  fails too when something still points into a region after the test
    def test(debug_region): ...          a debug region, for this test

What is found while a test runs makes it FAILED, in the phase in which it was found, with a section of its own that
names blocks and lines. The process goes on, as a fault in a guard opens what was touched; any other crash is what it
was.

Nothing of the package but this file is imported before a test asks for it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ._region import Region

_MARKER = "scopedbump(debug=None, escapes=False): regions of this test are debug regions; escapes make it fail"
_FIXTURE = "debug_region"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command line option, and the ini option."""
    group = parser.getgroup("scopedbump")
    group.addoption(
        "--scopedbump-debug",
        action="store_true",
        default=False,
        help="make every region a debug region: C that goes past its buffer makes the test fail",
    )
    parser.addini("scopedbump_debug", "as --scopedbump-debug", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", _MARKER)


def _wanted(item: pytest.Item) -> tuple[bool, bool]:
    """Whether the regions of this test are debug regions, and whether escapes make it fail."""
    config = item.config
    debug = bool(config.getoption("--scopedbump-debug") or config.getini("scopedbump_debug"))
    debug = debug or os.environ.get("SCOPEDBUMP_DEBUG", "") not in ("", "0")
    escapes = False
    for marker in reversed(list(item.iter_markers("scopedbump"))):  # the nearest comes last
        unknown = set(marker.kwargs) - {"debug", "escapes"}
        if marker.args or unknown:
            raise pytest.UsageError(f"{item.nodeid}: the marker is {_MARKER.partition(':')[0]}, not {marker}")
        debug = bool(marker.kwargs.get("debug", debug or marker.kwargs.get("escapes", False)))
        escapes = bool(marker.kwargs.get("escapes", escapes))
    return debug, escapes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Debug regions from the setup of a test to its teardown, where that is wanted."""
    debug, escapes = _wanted(item)
    off = not debug and any(True for _ in item.iter_markers("scopedbump"))
    if not debug and not off and _FIXTURE not in getattr(item, "fixturenames", ()):
        return (yield)
    with _debugging(item, debug, escapes):
        return (yield)


@contextmanager
def _debugging(item: pytest.Item, debug: bool, escapes: bool) -> Generator[None]:
    from . import _options

    former = _options.debug_by_default
    _options.debug_by_default = debug
    try:
        if not debug and _FIXTURE not in getattr(item, "fixturenames", ()):
            yield
            return
        from ._debug import _escapes, _faults

        policy = _faults.State.policy
        _faults.State.policy = "go_on"
        item.stash[_judge] = _Judge(item, escapes)
        _escapes.collecting = escapes
        try:
            yield
        finally:
            _faults.State.policy = policy
            _escapes.collecting = False
            _escapes.ended.clear()
            del item.stash[_judge]
    finally:
        _options.debug_by_default = former


class _Judge:
    """Says at the end of each phase what was found in it."""

    def __init__(self, item: pytest.Item, escapes: bool) -> None:
        from ._debug import _escapes, _findings

        self._item = item
        self._escapes = escapes
        self._of_escapes = _escapes
        self._findings = _findings
        self._seen = _findings.noted()

    def new_findings(self) -> list[str]:
        """What was found since the last time, canaries included."""
        from . import debug
        from ._region import Region

        arguments: dict[str, Any] = getattr(self._item, "funcargs", {})
        for value in arguments.values():
            if isinstance(value, Region):
                debug.check(value)
        seen, self._seen = self._seen, self._findings.noted()
        count = self._seen - seen
        return [finding.text for finding in tuple(self._findings.found)[-count:]] if count else []

    def escaped(self) -> list[str]:
        """What still points into regions that ended in this test."""
        return self._of_escapes.told() if self._escapes else []


_judge = pytest.StashKey[_Judge]()


def _judged(item: pytest.Item, phase: str, failed: bool) -> None:
    """Fail the phase if something was found in it; never over another failure."""
    judge = item.stash.get(_judge, None)
    if judge is None:
        return
    texts = judge.new_findings()
    if phase == "call" and not failed:  # a failure's traceback holds what the test did
        texts += judge.escaped()
    if not texts:
        return
    item.add_report_section(phase, "scopedbump", "\n".join(texts))
    if not failed:
        what = "1 finding" if len(texts) == 1 else f"{len(texts)} findings"
        pytest.fail(f"{what} in debug regions of this test: {texts[0]}", pytrace=False)


def _phase(item: pytest.Item, phase: str) -> Generator[None, object, object]:
    try:
        result = yield
    except BaseException:
        _judged(item, phase, failed=True)
        raise
    _judged(item, phase, failed=False)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """What is found in the setup makes it an error."""
    return (yield from _phase(item, "setup"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """What is found in the test makes it fail."""
    return (yield from _phase(item, "call"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """What is found in the teardown makes it an error."""
    return (yield from _phase(item, "teardown"))


@pytest.fixture
def debug_region(request: pytest.FixtureRequest) -> Iterator[Region]:
    """A debug region that ends with the test. What is found in it fails the test in its call phase."""
    from ._bump_region import bump_region
    from .debug import check

    region = bump_region(name=cast("pytest.Item", request.node).name, debug=True)
    try:
        yield region
    finally:
        check(region)
        region.__exit__(KeyboardInterrupt, None, None)  # what was found the phase tells: the end need not
