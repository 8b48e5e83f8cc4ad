"""Large memory: huge pages, clearing what was written and no more, and giving back what is not used any more."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.support import counts_references, run_script
from scopedbump import Region, RegionPool, ReserveError, bump_region
from scopedbump._layout import SMALL_PAGES
from scopedbump._pages import system_pages
from scopedbump._reservation import reserve
from scopedbump._zeros import clear_large

MIB = 1 << 20
STATM = Path("/proc/self/statm")
linux = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


def resident() -> int:
    """Bytes of this process that lie in RAM."""
    return int(STATM.read_text().split()[1]) * system_pages.page_size


def fill(region: Region, size: int, value: int = 1) -> None:
    """Write a block of this size, and forget it. By little pieces: some allocators keep large ones for a while."""
    block = region.alloc(size, zero=False)
    piece = bytes([value]) * min(size, 1 << 16)
    for at in range(0, size, len(piece)):
        block[at : at + len(piece)] = piece[: size - at]


def flags_of(address: int) -> set[str]:
    """The flags of the mapping at an address, as Linux names them."""
    here = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if span := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            here = int(span[1], 16) <= address < int(span[2], 16)
        elif here and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    raise AssertionError(f"nothing is mapped at {address:#x}")


@pytest.fixture
def knows_what_was_written() -> Iterator[None]:
    """Skip where the system can't tell which pages were written."""
    reservation, mapping = reserve(4 * MIB)
    reservation.commit(4 * MIB)
    if system_pages.touched(reservation.address, 4 * MIB):
        pytest.skip("this system does not say what was written")
    yield
    del mapping


@linux
@counts_references  # PyPy's own compiler takes memory meanwhile
def test_a_little_use_costs_a_little() -> None:
    """Promise 2: one byte costs no huge page, and 5 MiB cost at most 6."""
    with bump_region() as a:
        before = resident()
        a.alloc(1)[0] = 1
        assert resident() - before < MIB
        fill(a, 5 * MIB)
        assert resident() - before <= 6 * MIB + MIB // 2


@linux
def test_huge_pages_begin_behind_the_first_four_mib() -> None:
    """What is committed behind them is where a huge page may lie, and the kernel is told so."""
    with bump_region() as a:
        address = a.address(a.alloc(MIB))
        for _ in range(7):
            a.alloc(MIB)
        assert address % system_pages.huge_size == 0
        if Path("/sys/kernel/mm/transparent_hugepage").exists():
            assert "hg" in flags_of(address + SMALL_PAGES) and "hg" not in flags_of(address)


@linux
def test_a_block_that_needs_huge_pages_has_nothing_else() -> None:
    """One that reaches behind the first four MiB is told to the kernel from its beginning, and no other block is."""
    with bump_region() as a:
        address = a.address(a.alloc(16 * MIB))
        if Path("/sys/kernel/mm/transparent_hugepage").exists():
            assert "hg" in flags_of(address)
    with bump_region() as a:
        address = a.address(a.alloc(1))
        a.alloc(16 * MIB)
        if Path("/sys/kernel/mm/transparent_hugepage").exists():
            assert "hg" not in flags_of(address) and "hg" in flags_of(address + 2 * MIB)


@linux
@counts_references
@pytest.mark.parametrize("blocks", [1, 5, 20])
def test_five_mib_cost_at_most_six(blocks: int) -> None:
    """Promise 2: in one block or in several."""
    ones = bytes([1]) * (5 * MIB // blocks)
    with bump_region() as a:
        a.alloc(1)[0] = 1
        before = resident()
        for _ in range(blocks):
            a.alloc(len(ones), zero=False)[:] = ones
        assert resident() - before <= 6 * MIB + MIB // 4


@linux
@pytest.mark.usefixtures("knows_what_was_written")
def test_what_was_cleared_once_is_known_to_be_there_until_it_is_given_back() -> None:
    """Promise 2: it is not asked again what of it was written; after it was given back, nothing of it is touched."""
    reservation, mapping = reserve(64 * MIB)
    for give_back in (reservation.trim, lambda start: reservation.discard(start, 64 * MIB)):
        reservation.commit(64 * MIB)
        before = resident()
        system_pages.clear(reservation.address, 32 * MIB)
        clear_large(reservation, 4096, 32 * MIB)
        assert reservation.backed == 32 * MIB
        give_back(MIB)
        reservation.commit(64 * MIB)
        clear_large(reservation, 2 * MIB, 32 * MIB)
        assert resident() - before < 4 * MIB
    del mapping


@linux
def test_core_dumps_leave_out_what_is_not_committed_and_secrets() -> None:
    """Reserved pages are in no dump, committed ones are, and those of a region that is wiped are not."""
    with bump_region() as a, bump_region(wipe=True) as secret:
        address, hidden = a.address(a.alloc(10)), secret.address(secret.alloc(10))
        assert "dd" not in flags_of(address) and "dd" in flags_of(address + (1 << 29))
        assert "dd" in flags_of(hidden) and "dd" in flags_of(hidden + (1 << 29))


@linux
@pytest.mark.usefixtures("knows_what_was_written")
def test_what_nobody_wrote_is_not_touched() -> None:
    """Promises 2 and 6: a zeroed block over memory that was handed out and hardly written is zero, and stays away."""
    with RegionPool(1 << 28) as pool:
        with pool.region() as a:
            block = a.alloc(64 * MIB, zero=False)
            block[: 64 << 10] = bytes([1]) * (64 << 10)
            block[40 * MIB] = 7
            del block
        before = resident()
        for gap in (0, 5000):  # blocks of any size come before it
            with pool.region() as a:
                a.alloc((1 << 15) + gap)
                view = a.alloc(48 * MIB)
                assert resident() - before < 5 * MIB
                assert not any(view[: 1 << 17]) and not view[40 * MIB]
            del view  # while it is there the next region has other memory


def test_written_memory_is_zero_when_it_is_handed_out_again() -> None:
    """Promise 6: at every size around where clearing changes its ways, and wherever in a block somebody wrote."""
    with bump_region(1 << 28) as a:
        for size in (1 << 15, (1 << 15) + 1, 1 << 20, (1 << 21) - 1, 1 << 21, (1 << 21) + 4097, 7 * MIB):
            for _ in range(2):
                view = a.alloc(size)
                assert view == bytes(size)
                for at in (0, 1, size // 3, size // 2, size - 1):
                    view[at] = 255
                del view
                a.reset()
            fill(a, size, 255)
            a.reset()
            assert a.alloc(size) == bytes(size)
            a.reset()


@linux
@counts_references
def test_a_reset_keeps_what_it_is_told_to() -> None:
    """`retain`: pages above go back at the reset, those below stay warm, and all of it is zero again."""
    with bump_region(retain=16 * MIB) as a:
        before = resident()
        for _ in range(3):
            fill(a, 100 * MIB)
            a.reset()
            assert a.committed <= 16 * MIB
            assert 15 * MIB <= resident() - before <= 20 * MIB
            assert not any(a.alloc(MIB))
            a.reset()


@pytest.mark.parametrize(("retain", "error"), [(-1, ValueError), ("1", TypeError), (1.5, TypeError)])
def test_retain_is_checked(retain: object, error: type[Exception]) -> None:
    """A wrong `retain` is named, with its value."""
    with pytest.raises(error, match="retain"):
        bump_region(retain=retain)  # type: ignore[arg-type]


@linux
@counts_references
def test_a_pool_gives_a_lone_large_job_back() -> None:
    """By itself a pool keeps what regions used lately: a steady load keeps its pages, a lone large one does not."""
    with RegionPool(1 << 28) as pool:
        before = resident()
        with pool.region() as a:
            fill(a, 100 * MIB)
        assert resident() - before > 90 * MIB  # it may come again
        for _ in range(200):
            with pool.region() as a:
                fill(a, 3 * MIB)
        assert resident() - before < 8 * MIB
        assert pool.stats().misses == 1


@linux
@counts_references
def test_a_steady_load_finds_its_pages() -> None:
    """The same large job again and again faults no page in twice."""
    output = run_script("""
        import resource
        from scopedbump import RegionPool
        ones = bytes([1]) * (20 << 20)
        pool = RegionPool(1 << 28)
        def work():
            with pool.region() as a:
                a.alloc(len(ones), zero=False)[:] = ones
        for _ in range(3):
            work()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(300):
            work()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """)
    assert int(output) < 200


@counts_references
def test_a_pool_keeps_as_many_as_were_needed() -> None:
    """By itself a pool keeps the reservations that are out together, and lets go of those that nobody needs."""
    with RegionPool(1 << 20) as pool:
        for _ in range(40):
            together = [pool.region() for _ in range(30)]
            for region in together:
                region.alloc(1)
                region.close()
            del region, together
        assert pool.stats().misses == 30 and pool.stats().idle == 30
        for _ in range(1000):
            with pool.region() as a:
                a.alloc(1)
        assert pool.stats().idle <= 2
        assert pool.stats().misses == 30


@linux
def test_a_limit_may_leave_just_what_is_needed() -> None:
    """Under RLIMIT_AS there may be no room for the alignment of huge pages: the region is there all the same."""
    output = run_script("""
        import resource
        from scopedbump import bump_region
        with open("/proc/self/statm") as statm:
            taken = int(statm.read().split()[0]) * resource.getpagesize()
        bump_region(4096).close()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20) + (10 << 20), resource.RLIM_INFINITY))
        for size in range(60 << 20, 76 << 20, 1 << 18):
            try:
                with bump_region(size) as a:
                    a.alloc(8 << 20)[0] = 1
            except OSError as error:
                assert str(size) in str(error), error
                print(size)
                break
    """)
    assert int(output) > 60 * MIB


@linux
def test_locked_memory_is_named() -> None:
    """Under mlockall(MCL_FUTURE) a large reservation is refused with EAGAIN, and the error says what to do."""
    output = run_script("""
        import ctypes
        from scopedbump import ReserveError, bump_region
        bump_region(4096).close()  # imports all that a region needs, while that can be read
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            import os
            os.setuid(65534)  # a privileged process may lock whatever it likes
        except PermissionError:
            pass
        if libc.mlockall(2):
            print("RLIMIT_MEMLOCK (can't be tried here)")
        else:
            try:
                bump_region(1 << 30)
            except ReserveError as error:
                print(error)
    """)
    assert "RLIMIT_MEMLOCK" in output


def test_a_refused_reservation_names_what_was_asked_for() -> None:
    """Promise 2: the error speaks of the bytes that the caller asked for, not of those for the alignment."""
    with pytest.raises(ReserveError, match=str(1 << 60)):
        bump_region(1 << 60)
