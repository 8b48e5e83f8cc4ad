"""What a region looks like: a report in text, and its blocks as a picture."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from .. import _pages
from . import _faults
from ._call_sites import told
from ._chunk import DebugChunk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._chunk import Chunk
    from .._region import Region
    from ._blocks import Block
    from ._call_sites import CallSite

_MOST_ROWS = 20
_MOST_MARKS = 2_000
_WIDTH, _ROW, _MARGIN = 960, 24, 12


def table_of(chunk: Chunk) -> str:
    """What a debug region holds, by place, and what was found in it."""
    assert isinstance(chunk, DebugChunk)
    blocks = chunk.all_blocks()
    life = chunk.life
    lines = [f"  a debug region, opened at {told(life.opened_at)}: {len(blocks)} blocks, guards by {_guards()}"]
    if life.packed:
        lines.append(f"  {life.packed} blocks have canaries and no guard: there were too many mappings")
    if life.unguarded:
        lines.append(f"  {life.unguarded} blocks have neither guard nor canaries: the addresses for them are used up")
    if _faults.State.refusal:
        lines.append(f"  faults are not explained: {_faults.State.refusal}")
    found = chunk.found_so_far()
    lines += [f"  {finding.text}" for finding in found]
    lines += _table(blocks, "made at")
    if any(block.lent for block in blocks):
        lines += _table([block for block in blocks if block.lent and not block.freed], "not freed by C, made at")
    return "\n".join(lines)


def _table(blocks: Iterable[Block], head: str) -> list[str]:
    rows = _by_place(blocks)
    lines = [f"  {'blocks':>8} {'bytes':>12}  {head}"]
    lines += [f"  {count:8} {size:12}  {place}" for place, count, size in rows[:_MOST_ROWS]]
    if len(rows) > _MOST_ROWS:
        lines.append(f"  and {len(rows) - _MOST_ROWS} more places")
    return lines


def _guards() -> str:
    return "pages marked within a mapping" if _pages.system_pages.light_guards else "pages without access"


def _by_place(blocks: Iterable[Block]) -> list[tuple[str, int, int]]:
    """The places, how many blocks each made, and of how many bytes; those with the most bytes first."""
    names: dict[CallSite, str] = {}
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for block in blocks:
        name = names.get(block.made) or names.setdefault(block.made, told(block.made))
        counts[name] += 1
        sizes[name] += block.size
    return [(name, counts[name], size) for name, size in sizes.most_common()]


def drawn(region: Region, chunk: DebugChunk | None) -> str:
    """The blocks as an SVG picture."""
    blocks = [] if chunk is None else chunk.all_blocks()
    places = _by_place(blocks)
    colours = {place: index for index, (place, _, _) in enumerate(places)}
    marks = _marks(blocks)
    total = sum(size for _, size, _, _ in marks) or 1
    shapes: list[str] = []
    at = 0.0
    for block, size, count, ended in marks:
        wide = size / total * _WIDTH
        what = f"{count} blocks, {size} bytes" if count > 1 else f"{size} bytes at {block.address:#x}"
        place = told(block.made)
        title = escape(f"{what}, made at {place}{', ended' if ended else ''}")
        shapes.append(
            f'<rect x="{at:.2f}" y="24" width="{max(wide, 0.3):.2f}" height="40" fill="{_colour(colours[place])}"'
            f"{' opacity=' + chr(34) + '0.3' + chr(34) if ended else ''}><title>{title}</title></rect>"
        )
        at += wide
    shapes += _legend(places)
    across, high = _WIDTH + 2 * _MARGIN, 72 + _ROW * min(len(places), _MOST_ROWS) + 2 * _MARGIN
    box = f'x="{-_MARGIN}" y="{-_MARGIN}" width="{across}" height="{high}"'  # white: the text is black on any page
    head = f'<text x="0" y="13" font-size="13">{escape(repr(region))}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-_MARGIN} {-_MARGIN} {across} {high}" width="{across}" '
        f'font-family="monospace"><rect {box} fill="white"/>{head}{"".join(shapes)}</svg>'
    )


def _marks(blocks: list[Block]) -> list[tuple[Block, int, int, bool]]:
    """What is drawn: the first block of each mark, bytes, how many blocks, and whether they have ended."""
    marks: list[tuple[Block, int, int, bool]] = []
    each = -(-len(blocks) // _MOST_MARKS)
    for begin in range(0, len(blocks), max(each, 1)):
        some = blocks[begin : begin + each]
        size = sum(max(block.size, 1) for block in some)
        marks.append((some[0], size, len(some), some[0].end_in_words() is not None))
    return marks


def _legend(places: list[tuple[str, int, int]]) -> list[str]:
    lines: list[str] = []
    for index, (place, count, size) in enumerate(places[:_MOST_ROWS]):
        y = 80 + _ROW * index
        text = escape(f"{size} bytes in {count} block{'s' * (count > 1)}, {place}")
        lines.append(f'<rect x="0" y="{y}" width="16" height="16" fill="{_colour(index)}"/>')
        lines.append(f'<text x="24" y="{y + 13}" font-size="13">{text}</text>')
    return lines


def _colour(index: int) -> str:
    return f"hsl({index * 137 % 360} 60% 55%)"  # by the golden angle, neighbours differ most
