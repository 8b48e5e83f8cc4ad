"""A bar chart of ratios as SVG, on a logarithmic scale around 1."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10

_LABEL = 560
_PLOT = 480
_ROW = 22
_TOP = 64


def bars(rows: Sequence[tuple[str, float, float | None]], caption: str) -> str:
    """An SVG of (label, ratio, bound) rows: to the left of 1 is faster, a tick marks the bound."""
    values = [value for _, ratio, most in rows for value in (ratio, most) if value]
    low = min([0.1, *values]) / 1.3
    high = max([10.0, *values]) * 2.0

    def x(value: float) -> float:
        return round(_LABEL + _PLOT * (log10(value) - log10(low)) / (log10(high) - log10(low)), 1)

    height = _TOP + _ROW * len(rows) + 34
    bottom = height - 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _PLOT + 20}" height="{height}">',
        "<style>text { font: 12px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text x="12" y="22" fill="#111">Time with scopedbump / time without: less is better; blue: at most</text>',
        f'<text x="12" y="42" fill="#555">{escape(caption)}</text>',
    ]
    decade = 10.0 ** int(log10(low))
    while decade <= high:
        if decade >= low:
            parts.append(f'<path d="M{x(decade)} {_TOP}V{bottom}" stroke="{"#333" if decade == 1 else "#ddd"}"/>')
            parts.append(f'<text x="{x(decade)}" y="{height - 12}" text-anchor="middle" fill="#555">{decade:g}</text>')
        decade *= 10
    for at, (label, ratio, most) in enumerate(rows):
        top = _TOP + _ROW * at
        left, right = sorted((x(1.0), x(ratio)))
        colour = "#2a7f62" if ratio <= 1 else "#b5562b"
        parts.append(f'<text x="{_LABEL - 8}" y="{top + 15}" text-anchor="end" fill="#111">{escape(label)}</text>')
        parts.append(
            f'<rect x="{left}" y="{top + 4}" width="{max(right - left, 1.0):.1f}" height="{_ROW - 8}" fill="{colour}"/>'
        )
        parts.append(f'<text x="{right + 4}" y="{top + 15}" fill="{colour}">{ratio:.2f}</text>')
        if most is not None:
            parts.append(f'<path d="M{x(most)} {top + 1}v{_ROW - 2}" stroke="#1b4f9c" stroke-width="2"/>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
