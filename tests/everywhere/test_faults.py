"""Promises 5 and 8 under real refusals of the operating system: limits, control groups, overcommit, too many mappings.

Each runs in a process of its own, which sets the limit for itself. What can be set for the whole machine only is marked
`alone`: whatever else runs there would be refused memory too.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.invariants import check
from helpers.stress import in_process
from helpers.support import counts_references
from scopedbump import CommitError, Region, RegionPool, ReserveError, ScopedBumpError, bump_region

pytestmark = counts_references  # these count on memory that is back at once
linux = pytest.mark.skipif(sys.platform != "linux", reason="the limits of Linux are meant")
root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root may set this")

MIB = 1 << 20


def works(a: Region) -> None:
    """A region goes on serving what fits."""
    view = a.alloc(100)
    assert not any(view)
    view[:] = b"x" * 100
    check(a)


def status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


@contextmanager
def limited(limit: str, room: int) -> Iterator[None]:
    """Under this resource limit, `room` bytes above what the process has now."""
    import resource

    gc.collect()
    kind = getattr(resource, limit)
    before = resource.getrlimit(kind)
    now = status("VmSize" if limit == "RLIMIT_AS" else "VmData")
    resource.setrlimit(kind, (now + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def address_space() -> None:
    with bump_region(64 * MIB) as a:
        works(a)
        with limited("RLIMIT_AS", 256 * MIB):
            for _ in range(50):
                with pytest.raises(ReserveError, match="RLIMIT_AS") as caught:
                    bump_region(1 << 30)
                assert caught.value.errno == 12
                works(a)
            del caught
            for _ in range(50):  # and what was given back can be had again
                with bump_region(150 * MIB) as b:
                    works(b)
            with RegionPool(100 * MIB) as pool:
                first, second = pool.region(), pool.region()
                with pytest.raises(ReserveError):
                    pool.region()
                first.close()
                with pool.region() as third:
                    works(third)
                second.close()
            pin = a.alloc(10)[:]
            b = bump_region(200 * MIB)
            a_pin = b.alloc(10)[:]
            with pytest.raises(ReserveError):
                b.reset()  # needs a fresh reservation, for which there is no room
            works(b)
            b.close()
            del a_pin, pin
        works(a)
        with bump_region(1 << 30) as c:
            works(c)


@linux
def test_no_more_address_space() -> None:
    """Promise 8: RLIMIT_AS counts reservations; ReserveError says so, and all goes on below the limit."""
    in_process(__file__, "address_space")


def data() -> None:
    with bump_region(1 << 30) as a:
        works(a)
        with limited("RLIMIT_DATA", 64 * MIB):
            for _ in range(20):
                used = a.used
                with pytest.raises(CommitError, match="RLIMIT_DATA") as caught:
                    a.alloc(200 * MIB)
                assert caught.value.errno == 12
                assert a.used == used
                works(a)
            taken = 0
            with pytest.raises(CommitError):
                while True:
                    a.alloc(MIB)
                    taken += 1
            assert 40 < taken < 70  # up to the limit, though commits double
            check(a)
            with pytest.raises(CommitError):
                next(a.slab(200 * MIB))
            with a.scope() as s, pytest.raises(CommitError):
                s.alloc(300 * MIB)
            a.reset()
            works(a)
        a.alloc(200 * MIB)


@linux
def test_no_more_data() -> None:
    """Promise 8: RLIMIT_DATA counts what is committed; CommitError moves no cursor, and comes as late as it can."""
    in_process(__file__, "data")


def mappings() -> None:
    """Use up vm.max_map_count with regions of which each is two mappings, half committed."""
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    regions: list[Region] = []
    failures: list[ScopedBumpError] = []
    with bump_region(1 << 20) as first:
        works(first)
        while not failures:
            assert len(regions) <= most
            a = None
            try:
                a = bump_region(4 * MIB)
                a.alloc(10)
            except (ReserveError, CommitError) as error:
                failures.append(error.with_traceback(None))
            if a is not None:
                regions.append(a)
        assert "max_map_count" in str(failures[0])
        works(first)
        for _ in range(20):  # at the very limit: each try ends in the same error or in a region that works
            try:
                with bump_region(4 * MIB) as b:
                    b.alloc(10)
            except (ReserveError, CommitError):
                pass
        for a in regions[::3]:  # holes, so that an unmap may have to split a mapping
            a.close()
        for a in regions:
            a.close()
            check(a)
        works(first)
    count = len(regions)
    regions.clear()
    del a
    for _ in range(3):
        with bump_region(4 * MIB) as b:
            works(b)
    lines = len(Path("/proc/self/maps").read_text().splitlines())
    assert lines < 1000, "mappings were left behind"
    print(count)


@linux
@pytest.mark.skipif(
    sys.platform == "linux" and int(Path("/proc/sys/vm/max_map_count").read_text()) > 300_000,
    reason="the system allows too many mappings to use them up",
)
def test_too_many_mappings() -> None:
    """Promise 8: at vm.max_map_count every call may be refused, munmap too; afterwards nothing is left behind."""
    assert int(in_process(__file__, "mappings")) > 1000


OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


def strict() -> None:
    with bump_region(1 << 40) as a:  # reserving costs nothing in this mode too
        works(a)
        a.alloc(64 * MIB)
        limit = next(
            int(line.split()[1]) * 1024
            for line in Path("/proc/meminfo").read_text().splitlines()
            if line.startswith("CommitLimit")
        )
        used = a.used
        with pytest.raises(CommitError, match="overcommit_memory"):
            a.alloc(limit)
        assert a.used == used
        works(a)
    with RegionPool(1 << 40, retain=0) as pool:
        for _ in range(3):
            with pool.region() as b:
                works(b)
                b.alloc(256 * MIB)  # charged, refunded by the pool, charged again


@linux
@root
@pytest.mark.alone
@pytest.mark.skipif(not os.access(OVERCOMMIT, os.W_OK), reason="overcommit is not ours to set")
def test_strict_overcommit() -> None:
    """Promises 2 and 8: in mode 2 a terabyte can be reserved, and only what is committed is charged."""
    before = OVERCOMMIT.read_text()
    try:
        OVERCOMMIT.write_text("2")
    except OSError:
        pytest.skip("overcommit can't be set here")
    try:
        in_process(__file__, "strict")
    finally:
        OVERCOMMIT.write_text(before)


def groups() -> Iterator[tuple[Path, str]]:
    """Where a control group of memory can be made, and the name of its limit."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    if (v1 / "memory.limit_in_bytes").exists():
        yield v1, "memory.limit_in_bytes"
    if (v2 / "cgroup.controllers").exists() and "memory" in (v2 / "cgroup.controllers").read_text():
        yield v2, "memory.max"


def in_a_group(parent: str, name: str, limit: str) -> None:
    """Fill and give back much more than the group may hold at a time; then be killed for touching too much at once."""
    group = Path(parent) / name
    (group / "cgroup.procs").write_text(str(os.getpid()))
    block = bytes(MIB)
    with RegionPool(1 << 30, retain=MIB) as pool:
        for _ in range(8):
            with pool.region() as a:
                for _ in range(20):
                    a.alloc(MIB)[:] = block
    for _ in range(8):
        with bump_region() as a:
            for _ in range(20):
                a.alloc(MIB)[:] = block
    child = os.fork()
    if not child:
        with bump_region() as a:
            for _ in range(200):
                a.alloc(MIB)[:] = block
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9, "the limit was none"
    with bump_region() as a:
        works(a)
    print("done")


@linux
@root
def test_a_memory_group() -> None:
    """Promises 2 and 3: what is given back is back: 320 MiB pass through a control group that may hold 64."""
    name = f"scopedbump-test-{os.getpid()}"
    for parent, limit in groups():
        group = parent / name
        try:
            group.mkdir()
            (group / limit).write_text(str(64 * MIB))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        try:
            assert "done" in in_process(__file__, "in_a_group", str(parent), name, limit)
            return
        finally:
            group.rmdir()
    pytest.skip("no control group can be made here")


def no_memory(step: int, most: int) -> None:
    """Python's own allocator refuses the N-th request, and the thousand after it, for every N."""
    import _testcapi  # type: ignore[import-not-found]  # where CPython was built with it

    hits = 0
    sys.unraisablehook = lambda what: None
    with bump_region(MIB) as warm, warm.scope() as inner:  # CPython's own compiler and importer don't bear it
        next(inner.slab(30))
        inner.reset()
    for number in range(0, most, step):
        a = bump_region(1 * MIB)
        held = [a.alloc(100) for _ in range(5)]
        pin = a.alloc(10)[:]
        failure = b = s = None
        _testcapi.set_nomemory(number, number + 1000)
        try:
            b = bump_region(1 * MIB)
            b.alloc(100)
            a.alloc(50_000)
            a.alloc(100, 64)
            with a.scope() as s:
                s.alloc(10)
            next(a.slab(30))
            a.reset()
            a.close()
            b.close()
        except MemoryError as error:
            failure = error
        finally:
            _testcapi.remove_mem_hooks()
        if failure is None and number > 1000:
            break
        hits += failure is not None
        failure = None
        if not a.closed and (s is None or s.closed):
            works(a)
        a.close()
        check(a)
        bytes(pin)
        held.clear()
    print(hits)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython's allocator is meant")
@pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="CPython itself crashes there, with nothing but slots, maps and slices (see python/cpython#151763)",
)
def test_no_memory_for_python_itself() -> None:
    """Promise 5: MemoryError from the interpreter's own allocations, wherever it comes, crashes nothing."""
    pytest.importorskip("_testcapi")
    assert int(in_process(__file__, "no_memory", 3, 20_000)) > 10
