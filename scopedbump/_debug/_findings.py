"""Findings: what was found to be wrong with a block, in words."""

from __future__ import annotations

from collections import deque
from itertools import count as count_from
from itertools import takewhile
from typing import Final, Literal, NamedTuple, TypeAlias

from ._blocks import Block, BlockInfo, Life
from ._call_sites import told

Kind: TypeAlias = Literal[
    "write past", "read past", "write before", "read before", "use after end", "canary changed", "wrong free", "stray"
]

_MOST: Final = 10_000
_MOST_CALLS = 4
_MOST_SHOWN = 10
_NEAR = 4096  # bytes up to where the other neighbour may be meant too


class Finding(NamedTuple):
    """Something that was found to be wrong.

    Attributes:
        kind: "write past", "read past", "write before", "read before" (a block); "use after end" (of a scope, a reset,
            a region, or of a block that was freed); "canary changed"; "wrong free" (of a block that was freed already,
            or of what is none); "stray" (into a debug region's range, but at no block).
        text: all of it, in words.
        address: that was touched; of a canary, the first byte that changed.
        block: the block that is meant, or most likely meant.
        stack: the Python calls that did it, innermost first, each "file:line in function". Empty for a canary, which is
            found afterwards, and for threads that are not Python's.
    """

    kind: Kind
    text: str
    address: int
    block: BlockInfo | None
    stack: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


Finding.__module__ = "scopedbump.debug"

found: deque[Finding] = deque(maxlen=_MOST)
"""All that were noted in this process, of which the oldest go."""


_numbers = count_from(0)


def noted() -> int:
    """How many were noted in this process."""
    return int(repr(_numbers)[6:-1])  # "count(12)": to look at it without taking one


def note(finding: Finding, life: Life | None) -> None:
    """Note a finding: for `findings()`, and for the end of the region whose block it is."""
    found.append(finding)
    next(_numbers)
    while life is not None and life.ended is not None:
        life = life.then
    if life is not None:
        life.pending.append(finding)


def count(number: int, what: str = "byte") -> str:
    """A number with its word."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def described(block: Block) -> str:
    """A block in words: how large, where made, whether it is good."""
    life = block.life
    of = f" of {'a scope of ' if life.scope else ''}region {life.name!r}" if life.name else ""
    what = "writer of up to" if block.grows else "block of"
    text = f"the {what} {count(block.size)} (align {block.align}) at {block.address:#x}{of}"
    text += f", made at {told(block.made)}"
    if block.back:
        text += ", taken back because no object could be made of it"
    elif ended := block.end_in_words():
        text += f"; {ended}"
    return text


class By(NamedTuple):
    """Who touched what it must not: the calls of Python, innermost first, and the instruction in words."""

    stack: tuple[str, ...]
    instruction: str


def of_fault(
    address: int, write: bool | None, blocks: tuple[Block | None, Block | None], who: By
) -> tuple[Finding, Life | None]:
    """What a fault means, between which blocks it was, and whose finding it is."""
    did = "an access" if write is None else "a write" if write else "a read"
    beyond: Kind = "read past" if write is False else "write past"
    below: Kind = "read before" if write is False else "write before"
    by = _told(who)
    stack = who.stack
    before, after = blocks
    if before is not None and before.grows and before.life.ended is None and address < before.edge:
        text = f"{did} at byte {address - before.address}, where nothing was filled yet, of {described(before)}"
        return Finding(beyond, text + by, address, before.info(), stack), before.life
    if before is not None and address < before.edge:
        at = address - before.address
        text = f"use after the end: {did} at byte {at} of {described(before)}"
        return Finding("use after end", text + by, address, before.info(), stack), before.life
    past = None if before is None else address - before.address - before.size
    under = None if after is None else after.address - address
    if before is not None and past is not None and (under is None or past <= under):
        text = f"{did} {count(past + 1)} past the end of {described(before)}"
        if after is not None and under is not None and under <= _NEAR:
            text += f"\n    or {count(under)} before the start of {described(after)}"
        return Finding(beyond, text + by, address, before.info(), stack), before.life
    if after is not None and under is not None:
        text = f"{did} {count(under)} before the start of {described(after)}"
        if before is not None and past is not None and past <= _NEAR:
            text += f"\n    or {count(past + 1)} past the end of {described(before)}"
        return Finding(below, text + by, address, after.info(), stack), after.life
    text = f"{did} at {address:#x}, in a debug region that has no block there"
    return Finding("stray", text + by, address, None, stack), None


def of_free(address: int, block: Block | None, stack: tuple[str, ...]) -> Finding:
    """C freed what it must not: a block that is freed already, or an address inside one."""
    text = f"wrong free of {address:#x}, where no block begins"
    if block is not None:
        at = address - block.address
        text = f"wrong free of {f'byte {at} of ' if at else ''}{described(block)}"
    return Finding("wrong free", text + _told(By(stack, "")), address, None if block is None else block.info(), stack)


def _told(who: By) -> str:
    """Who did it: the first of the calls, as far as they are not those of a test runner."""
    at = f"\n    at {who.instruction}" if who.instruction else ""
    if not who.stack:
        return f"{at}\n    by a thread that runs no Python"
    calls = takewhile(lambda call: "_pytest" not in call and "pluggy" not in call, who.stack[:_MOST_CALLS])
    return f"{at}\n    by " + "\n       ".join(calls)


def of_canary(block: Block, address: int, changed: int) -> Finding:
    """Bytes beside a block are not what they were: the first of them, and how many."""
    if address < block.address:
        where = f"up to {count(block.address - address)} before the start"
    else:
        where = f"up to {count(address + changed - block.address - block.size)} past the end"
    text = f"canary changed: something wrote {where} of {described(block)}"
    return Finding("canary changed", text, address, block.info(), ())


def summary(findings: tuple[Finding, ...]) -> str:
    """The first of them, in words, and how many there are."""
    count = len(findings)
    head = "1 finding" if count == 1 else f"{count} findings"
    shown = [f"  {finding.text}" for finding in findings[:_MOST_SHOWN]]
    rest = [f"  and {count - _MOST_SHOWN} more, in `findings`"] if count > _MOST_SHOWN else []
    return "\n".join([f"{head} in a debug region", *shown, *rest])
