"""Large memory where a control group counts it, with and without huge pages, and after a fork: no promise is broken.

What the system refuses (limits, overcommit, mappings) is in `everywhere/test_faults.py`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.support import counts_references, run_script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are limits of Linux")

GROUPS = Path("/sys/fs/cgroup")
LARGE_WORK = """
    from scopedbump import RegionPool, bump_region
    def large_work(rounds):
        ones = bytes([1]) * (24 << 20)
        with RegionPool(1 << 28, retain=1 << 20) as pool, bump_region(1 << 28, retain=1 << 20) as one:
            for _ in range(rounds):
                with pool.region() as a:
                    view = a.alloc(len(ones))
                    assert view == bytes(len(ones))
                    view[:] = ones
                one.alloc(len(ones), zero=False)[:] = ones
                one.reset()
                with bump_region() as a:
                    a.copy(ones)
"""


@contextlib.contextmanager
def group_of(limit: int) -> Iterator[Path]:
    """The file that takes the processes of a new control group with so much memory; skips where none can be made."""
    second = (GROUPS / "cgroup.controllers").exists()
    group = GROUPS / ("" if second else "memory") / f"scopedbump-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as refusal:
        pytest.skip(f"no control group can be made here: {refusal}")
    try:
        try:
            (group / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(limit))
        except OSError as refusal:
            pytest.skip(f"a control group has no memory of its own here: {refusal}")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


@counts_references
def test_what_is_given_back_is_not_charged() -> None:
    """Promises 2 and 3: a control group that holds one large job holds any number, one after the other."""
    code = textwrap.dedent(f"""
        import os, sys
        {textwrap.indent(textwrap.dedent(LARGE_WORK), " " * 8).strip()}
        with open(sys.argv[1], "w") as group:
            group.write(str(os.getpid()))
        large_work(3)
        kept = []
        try:  # what is not given back is charged: the kernel ends the process
            while len(kept) < int(sys.argv[2]):
                kept.append(bytes([1]) * (24 << 20))
        finally:
            print(len(kept))
    """)
    with group_of(100 << 20) as processes:
        for kept, status in ((1, 0), (10, -9)):
            command = [sys.executable, "-c", code, str(processes), str(kept)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == status, done.stderr


@counts_references
@pytest.mark.parametrize("disabled", [0, 1])
def test_whether_or_not_there_are_huge_pages(disabled: int) -> None:
    """Promises 2, 3 and 6 with huge pages as this system has them, and in a process that has none."""
    run_script(
        f"""
        import ctypes, sys
        {textwrap.indent(textwrap.dedent(LARGE_WORK), " " * 8).strip()}
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        if int(sys.argv[1]):
            assert not ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE
        with bump_region() as a:
            a.alloc(1)
            before = resident()
            a.alloc(1)[0] = 1
            assert resident() - before < 1 << 20
        large_work(3)
        ones = bytes([1]) * (5 << 20)
        before = resident()
        with bump_region() as a:
            a.alloc(len(ones), zero=False)[:] = ones
            assert resident() - before < (6 << 20) + (1 << 18)
        assert resident() - before < 1 << 20
        """,
        str(disabled),
    )


def test_a_child_gives_back_its_own_pages_and_no_others() -> None:
    """Promise 10: resets, trims and large clearings of a child leave what the parent has, in huge pages too."""
    run_script("""
        import os
        from scopedbump import RegionPool, bump_region
        ones = bytes([1]) * (24 << 20)
        pool = RegionPool(1 << 28, retain=1 << 20)
        a, leased = bump_region(retain=1 << 20), pool.region()
        mine, theirs = a.alloc(len(ones)), leased.alloc(len(ones))
        mine[:] = theirs[:] = ones
        child = os.fork()
        if not child:
            try:
                assert mine == theirs == ones
                a.reset()
                assert a.alloc(len(ones)) == bytes(len(ones))
                leased.close()
                with pool.region() as other:
                    assert other.alloc(len(ones)) == bytes(len(ones))
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert mine == theirs == ones
        del mine, theirs
        a.close()
        leased.close()
    """)
