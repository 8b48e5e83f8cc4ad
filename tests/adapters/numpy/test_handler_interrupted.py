"""Promise 5 at NumPy's handler: what a signal handler raises arrives whole, and NumPy has its own allocator again."""

from __future__ import annotations

import gc
import random
import signal
import sys
from functools import partial

import pytest

from helpers.stress import at_moment, in_process
from helpers.support import run_script
from scopedbump import Region, bump_region

np = pytest.importorskip("numpy", reason="NumPy is not installed")
if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    pytest.skip("NumPy's allocator can be a region only on CPython with a GIL", allow_module_level=True)

from scopedbump._adapters import _numpy_abi as abi  # noqa: E402
from scopedbump._adapters import _numpy_memory as memory  # noqa: E402

BIG = 10_000


class AlarmError(Exception):
    """What a signal handler raises."""


def ring(*_: object) -> None:
    """A signal handler."""
    raise AlarmError("with", "arguments")


def allocator() -> str:
    """The name of NumPy's present allocator."""
    name: str = abi.umath.get_handler_name()
    return name


def settle() -> None:
    """Nothing is left of what was interrupted."""
    gc.collect()
    memory.sweep()
    assert allocator() == "default_allocator"
    assert not memory._deferred and not any(memory.slots.values())


def work(region: Region) -> None:
    """Enter, allocate in every way, leave."""
    with region.numpy.handler(0):
        x = np.ones(1000)
        x = x * 2 + 1
        y = np.zeros(10)
        y.resize(2000, refcheck=False)
        z = np.arange(7)
        assert (x == 3).all() and not y.any() and z.sum() == 21


def at_every_moment(first: int, step: int) -> None:
    """Interrupt the work once at each moment at which CPython lets a signal handler in."""
    number, happened = first, True
    while happened:
        with bump_region(1 << 20) as a:  # one each: a debug region's work has more moments each time
            work(a)
            moment = at_moment(number, ring, partial(work, a))
            happened = moment.happened
            assert not happened or moment.error is AlarmError, (number, moment.place, moment.error)
            settle()
        assert a.released
        number += step
    assert number > 100


@pytest.mark.parametrize(
    ("first", "step"), [(0, 9), pytest.param(0, 2, marks=pytest.mark.long), pytest.param(1, 2, marks=pytest.mark.long)]
)
def test_an_exception_at_any_moment_arrives_and_nothing_stays(first: int, step: int) -> None:
    """Entering, the callbacks and leaving: the exception comes out as it is, wherever it came in."""
    in_process(__file__, "at_every_moment", first, step)


def ring_in_a_loop(rounds: int, size: int) -> None:
    """Interrupt a loop of handlers at random moments."""
    generator = random.Random(size)
    signal.signal(signal.SIGALRM, ring)
    with bump_region(1 << 26) as a:
        work(a)
        for _ in range(rounds):
            try:
                signal.setitimer(signal.ITIMER_REAL, generator.uniform(5e-5, 6e-4))
                for _ in range(100_000):  # as good as for ever: an alarm that was lost is seen
                    with a.numpy.handler(0):
                        x = np.ones(size)
                        x = x * x + 1
                raise AssertionError("an alarm was lost")
            except AlarmError as alarm:
                assert alarm.args == ("with", "arguments")
            assert allocator() == "default_allocator"
        x = None
        settle()
    assert a.released


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers")
@pytest.mark.parametrize(("rounds", "size"), [(1500, 50), (400, BIG)])
def test_a_loop_that_enters_and_leaves_is_interrupted(rounds: int, size: int) -> None:
    """Every alarm comes out whole, and after it NumPy has its own allocator."""
    in_process(__file__, "ring_in_a_loop", rounds, size)


def ring_at_the_exit() -> None:
    """Signals that come in while C is at work, so that the next function to be entered is `__exit__` itself."""
    import ctypes

    send = ctypes.CDLL(None)["raise"]
    signal.signal(signal.SIGALRM, ring)
    with bump_region(1 << 24) as a:
        work(a)
        for _ in range(50):
            try:
                with a.numpy.handler(0):
                    (_sent,) = map(send, (signal.SIGALRM,))  # by unpacking, behind which CPython does not look
            except AlarmError:
                assert allocator() == "default_allocator"
            else:
                raise AssertionError
    settle()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no signals to send")
def test_a_signal_at_the_entry_of_exit_is_no_exception() -> None:
    """The handler is left although the exception comes before any line of its way out."""
    in_process(__file__, "ring_at_the_exit")


def test_a_handler_that_is_gone_is_put_right() -> None:
    """A handler that was lost without being left: the next allocation gives NumPy back what it had."""
    with bump_region() as a, bump_region() as b:
        with a.numpy.handler(0) as outer:
            lost = b.numpy.handler(0)
            lost.__enter__()
            x = np.ones(BIG)
            assert x.ctypes.data in b
            del lost
            y = np.ones(BIG)
            z = np.ones(BIG)
            assert y.ctypes.data not in b and z.ctypes.data in a and outer.served_blocks
            lost = b.numpy.handler(0)
            lost.__enter__()
            del lost
        assert allocator() == "default_allocator"
        del x, y, z
    settle()
    assert a.released and b.released


def test_a_system_without_callbacks_is_told_before_anything_happens() -> None:
    """CallbackRefusedError, an OSError, where memory can't be written and executed; arrays work all the same."""
    if sys.platform != "linux":
        pytest.skip("there is no PR_SET_MDWE")
    out = run_script(
        """
        import ctypes
        if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, since Linux 6.3
            print("skip")
        else:
            import numpy as np
            from scopedbump import CallbackRefusedError, ScopedBumpError, bump_region
            try:
                import _cffi_backend
                _cffi_backend.FFI().callback("int(*)(int)", abs)
                print("skip")
            except MemoryError:
                with bump_region() as a:
                    for _ in range(2):
                        try:
                            a.numpy.handler()
                        except CallbackRefusedError as error:
                            assert isinstance(error, OSError) and isinstance(error, ScopedBumpError)
                            assert error.errno == 13 and "PR_SET_MDWE" in str(error)
                        else:
                            raise AssertionError
                    assert a.used == 0 and (a.numpy.full(3, 2.0) == 2).all()
        """
    )
    if out == "skip\n":
        pytest.skip("this system allows callbacks whatever is asked for")


def test_a_sub_interpreter_is_refused_at_once() -> None:
    """NotImplementedError instead of waiting for ever: C can't call Python there."""
    run_script(
        """
        import warnings
        warnings.simplefilter("ignore")
        import os
        try:
            import _interpreters as interpreters
            made = interpreters.create("legacy")
        except ImportError:
            import _xxsubinterpreters as interpreters
            import sys
            made = interpreters.create(**({"isolated": False} if sys.version_info >= (3, 12) else {}))
        reading, writing = os.pipe()
        interpreters.run_string(made, f'''if 1:
            import os, sys, warnings
            warnings.simplefilter("ignore")
            sys.path[:0] = {__import__("sys").path!r}
            try:
                import numpy
                from scopedbump import bump_region
            except ImportError:
                os.write({writing}, b"refused by NumPy")
            else:
                with bump_region() as a:
                    try:
                        a.numpy.handler()
                    except NotImplementedError as error:
                        os.write({writing}, str(error).encode())
        ''')
        os.close(writing)
        told = os.read(reading, 1000)
        assert b"main interpreter" in told or told == b"refused by NumPy", told
        """
    )
