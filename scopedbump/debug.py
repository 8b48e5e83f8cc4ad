"""What debug regions found, and what they know.

`bump_region(debug=True)`, `RegionPool(debug=True)` and SCOPEDBUMP_DEBUG=1 make them: regions whose blocks have guards
behind them. C that writes or reads past the end of a block gets a fault there, at the instruction, and the fault says
which block it was, which line of Python made it, and which one called the C. It is for tests and for finding bugs:
`alloc(64)` takes 11 us (0.2 without debug), opening and closing 31 us (8.5), a lease 78 us (3.9), a block 4.6 KiB of
memory. Regions without debug cost what they would if there were none with: the byte code of `alloc` is the same.

Each block ends at the end of a page, as near as its alignment lets it; the next page is a guard. What is left of its
pages holds canaries, looked at by `check(region)`, when C frees the block, and at the end. `zero=False` memory holds
0xA5. No address is used twice: an ended scope, a reset, a closed region (the last 64), a lease that is over, what C
frees by hooks, what NumPy frees under its handler and what a writer did not fill are guarded; what something still
points into is not. `bump_region(debug=False)` overrules SCOPEDBUMP_DEBUG.

What it can't see: a read that stays in the slack of the alignment behind a block (`a.numpy` aligns to 64), or before a
block in its own page. A system call into a guard is EFAULT, and no finding. Findings need CPython on Linux (x86-64,
arm64) or Windows (x86-64); elsewhere, and where no memory may become executable, a guard is a plain segmentation
fault. Before Linux 6.13, and in locked memory, each guard takes two mappings, and behind 30,000 blocks there are
canaries only: `report()` says so.
"""

from __future__ import annotations

from ._debug import _faults, _findings
from ._debug._blocks import BlockInfo
from ._debug._chunk import DebugChunk
from ._debug._faults import Policy
from ._debug._findings import Finding
from ._debug._holders import Holder, holders_of
from ._debug._pictures import drawn
from ._region import Region

__all__ = ["BlockInfo", "Finding", "Holder", "check", "findings", "holders", "on_fault", "svg"]


def findings() -> tuple[Finding, ...]:
    """What was found in this process, in any region: the last 10,000, in the order in which they were noted.

    Thread safety: any thread may ask at any moment.
    """
    return tuple(_findings.found)


def on_fault(policy: Policy) -> Policy:
    """Say what becomes of a program that touches what it must not.

    Args:
        policy: "die", as it is without a word: the finding is printed to standard error, and the fault goes to whoever
            handled it before, so that the process dies as it would have. "go_on": the finding is noted, what was
            touched is opened, and the program goes on with its next instruction; a write lands where nothing is, a read
            finds zeros. It is closed again at the next allocation from that region, or `check`.

    Returns:
        What was said before.

    Raises:
        ValueError: it is neither.
        NotImplementedError: "go_on" where no fault handler can be made; the text says why. A guard is then a
            segmentation fault, which `faulthandler` shows.
    """
    if policy not in ("die", "go_on"):
        raise ValueError(f"policy must be 'die' or 'go_on', not {policy!r}")
    if policy == "go_on":
        if _faults.find_handler() is None:
            raise NotImplementedError(f"a program can't go on after a fault here: {_faults.State.refusal}")
        _faults.look_again()
    before = _faults.State.policy
    _faults.State.policy = policy
    return before


def check(region: Region) -> tuple[Finding, ...]:
    """Look at the canaries of a debug region now, and of the scopes inside.

    What is found is told again at the region's end. A region without debug, or that has ended, has nothing to look at.

    Returns:
        All that was found in this region and was not told at an end: by canaries and by faults.
    """
    chunk = _chunk_of(region)
    if chunk is None:
        return ()
    chunk.check()
    return chunk.found_so_far()


def holders(region: Region) -> tuple[Holder, ...]:
    """What points into a debug region, and would keep its memory, or does so after its end.

    It goes through all objects that the garbage collector knows, and the local variables of all threads: for a search,
    not for every day.
    """
    chunk = _chunk_of(region)
    if chunk is None:
        return ()
    return holders_of(chunk.ranges(), chunk.reservation.ledger, chunk.views)


def svg(region: Region) -> str:
    """A picture of a debug region's blocks, in the order in which they were made: a colour for each place.

    What has ended is faded. It is bounded in size: with more blocks than fit, neighbours of one place share a mark.
    """
    return drawn(region, _chunk_of(region))


def _chunk_of(region: Region) -> DebugChunk | None:
    chunk = region._chunk
    return chunk if isinstance(chunk, DebugChunk) else None
