"""Charts as SVG, drawn on the server: no script, no style attributes, no other library.

Positions are percentages, so a chart is as wide as the page lets it while its letters keep their
size. Colours are classes; ``desk.css`` takes them from the admin's variables, light and dark. Each
chart has its numbers as a table, too (``Chart.table``): the drawing is one image for who cannot see
it, and says no more than the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

#: Series that have a colour of their own; what is beyond goes together into the last.
COLOURS: Final = 6
_TICKS: Final = 4
#: Values up to which each has a dot on its line.
_DOTTED: Final = 40
#: Of the place that a bar has.
_BAR: Final = 0.76

Number = Decimal | int | float


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one kind, one for each place on the axis. None: there is none at that place."""

    label: str
    values: Sequence[Number | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready for the template ``desk_chart.html``.

    ``table`` are rows of texts, each with its head; ``heads`` the heads of the columns.
    """

    title: str
    svg: SafeString
    y_axis: SafeString
    x_axis: SafeString
    legend: Sequence[tuple[int, str]]
    heads: Sequence[str]
    table: Sequence[tuple[str, Sequence[str]]]
    note: str = ""
    is_empty: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """The places of a chart from left to right: short names, and the full ones of the table."""

    head: str
    short: Sequence[str]
    full: Sequence[str]


@dataclass(frozen=True, slots=True)
class Scale:
    """From nothing to ``top``, in steps that people count in."""

    top: Number
    ticks: Sequence[Number]

    @classmethod
    def to(cls, most: Number) -> Scale:
        """The scale on which ``most`` fits."""
        if most <= 0:
            return cls(1, (0,))
        most = Decimal(str(most))
        step = Decimal(10) ** (most / _TICKS).logb()
        step *= next(n for n in (Decimal(1), Decimal(2), Decimal(5), Decimal(10)) if
                     step * n * _TICKS >= most)  # fmt: skip
        count = int((most / step).to_integral_value(ROUND_CEILING))
        return cls(step * count, [step * n for n in range(count + 1)])

    def share(self, value: Number) -> float:
        """How high ``value`` is, in percent."""
        return float(value) / float(self.top) * 100


def bars(
    title: str,
    axis: Axis,
    series: Sequence[Series],
    *,
    show: Callable[[Any], str],
    tick: Callable[[Any], str],
    note: str = "",
) -> Chart:
    """Upright bars; those of several series stand on each other."""
    totals = [
        sum((Decimal(str(one.values[n] or 0)) for one in series), Decimal(0))
        for n in range(len(axis.short))
    ]
    scale = Scale.to(max(totals, default=Decimal(0)))
    slot = 100 / max(len(totals), 1)
    groups = []
    for place, total in enumerate(totals):
        parts = []
        below = 0.0
        for colour, one in enumerate(series):
            value = one.values[place] or 0
            if value:
                height = scale.share(value)
                parts.append(
                    format_html(
                        '<rect class="x402-c{}" x="{}%" y="{}%" width="{}%" height="{}%"/>',
                        colour,
                        _short(slot * (place + (1 - _BAR) / 2)),
                        _short(100 - below - height),
                        _short(slot * _BAR),
                        _short(height),
                    )
                )
                below += height
        title_text = f"{axis.full[place]}: {show(total)}"
        groups.append(_place(place, slot, title_text, parts))
    return Chart(
        title=title,
        svg=_plot(title, scale, groups),
        y_axis=_y_axis(scale, tick),
        x_axis=_x_axis(axis.short),
        legend=[(n, one.label) for n, one in enumerate(series)] if len(series) > 1 else [],
        heads=[axis.head, *(one.label for one in series)],
        table=_table(axis, series, show),
        note=note,
        is_empty=not any(totals),
    )


def line(
    title: str,
    axis: Axis,
    series: Series,
    *,
    show: Callable[[Any], str],
    tick: Callable[[Any], str],
    note: str = "",
) -> Chart:
    """One line, broken where there is no value."""
    known = [value for value in series.values if value is not None]
    scale = Scale.to(max(known, default=0))
    slot = 100 / max(len(series.values), 1)
    points: list[list[tuple[float, float]]] = [[]]
    groups = []
    for place, value in enumerate(series.values):
        if value is None:
            points.append([])
            continue
        points[-1].append((slot * (place + 0.5), 100 - scale.share(value)))
        dots = []
        if len(series.values) <= _DOTTED or _stands_alone(series.values, place):
            x, y = map(_short, points[-1][-1])
            circle = '<circle class="x402-desk-dot" cx="{}%" cy="{}%" r="2.5"/>'
            dots.append(format_html(circle, x, y))
        groups.append(_place(place, slot, f"{axis.full[place]}: {show(value)}", dots))
    lines = format_html_join(
        "",
        '<polyline class="x402-desk-line" points="{}"/>',
        (
            (" ".join(f"{_short(x)},{_short(y)}" for x, y in piece),)
            for piece in points
            if len(piece) > 1
        ),
    )
    # The line is stretched to the width of the page; its stroke is not (``desk.css``).
    drawn = format_html('<svg viewBox="0 0 100 100" preserveAspectRatio="none">{}</svg>', lines)
    return Chart(
        title=title,
        svg=_plot(title, scale, [drawn, *groups]),
        y_axis=_y_axis(scale, tick),
        x_axis=_x_axis(axis.short),
        legend=[],
        heads=[axis.head, series.label],
        table=_table(axis, [series], show),
        note=note,
        is_empty=not known,
    )


def _stands_alone(values: Sequence[Number | None], place: int) -> bool:
    """Whether no line would lead to the value at ``place``, or from it."""
    around = [*values[max(place - 1, 0) : place], *values[place + 1 : place + 2]]
    return not any(one is not None for one in around)


def share_bar(share: float) -> SafeString:
    """A bar across, for a row of a table that says the number itself. ``share`` of 1 fills it."""
    return format_html(
        '<svg class="x402-desk-share" aria-hidden="true" focusable="false">'
        '<rect class="x402-desk-share-of" width="100%" height="100%"/>'
        '<rect class="x402-c0" width="{}%" height="100%"/></svg>',
        _short(min(max(share, 0.0), 1.0) * 100),
    )


def _place(place: int, slot: float, title: str, parts: Sequence[SafeString]) -> SafeString:
    """What is drawn at one place, and its number for who points at it, anywhere above or below."""
    return format_html(
        '<g class="x402-desk-place"><title>{}</title>'
        '<rect class="x402-desk-hit" x="{}%" y="0" width="{}%" height="100%"/>{}</g>',
        title,
        _short(slot * place),
        _short(slot),
        format_html_join("", "{}", ((part,) for part in parts)),
    )


def _plot(title: str, scale: Scale, groups: Sequence[SafeString]) -> SafeString:
    heights = [_short(100 - scale.share(value)) for value in scale.ticks]
    grid = format_html_join(
        "",
        '<line class="x402-desk-grid" x1="0" x2="100%" y1="{}%" y2="{}%"/>',
        ((height, height) for height in heights),
    )
    return format_html(
        '<svg class="x402-desk-plot" role="img" aria-label="{}" focusable="false">{}{}</svg>',
        title,
        grid,
        format_html_join("", "{}", ((group,) for group in groups)),
    )


def _y_axis(scale: Scale, tick: Callable[[Any], str]) -> SafeString:
    texts = format_html_join(
        "",
        '<text x="100%" y="{}%" dy="0.32em">{}</text>',
        ((_short(100 - scale.share(value)), tick(value)) for value in scale.ticks),
    )
    return format_html(
        '<svg class="x402-desk-y" aria-hidden="true" focusable="false">{}</svg>', texts
    )


def _x_axis(names: Sequence[str]) -> SafeString:
    """As many names as there is place for on a phone, from the right."""
    count = len(names)
    step = max(-(-count // 4), 1)
    texts = []
    for number, place in enumerate(range(count - 1, -1, -step)):
        # Where the bars are narrow, the last name would stand out beyond the last of them.
        kind, x = ("x402-desk-last", 100.0) if count > 8 and not number else ("", None)
        if number % 2:
            kind = "x402-desk-roomy"  # left out on the narrowest screens
        x = 100 * (place + 0.5) / count if x is None else x
        texts.append(
            format_html('<text class="{}" x="{}%" y="1em">{}</text>', kind, _short(x), names[place])
        )
    return format_html(
        '<svg class="x402-desk-x" aria-hidden="true" focusable="false">{}</svg>',
        format_html_join("", "{}", ((text,) for text in texts)),
    )


def _table(
    axis: Axis, series: Sequence[Series], show: Callable[[Any], str]
) -> list[tuple[str, list[str]]]:
    return [
        (name, ["—" if (v := one.values[place]) is None else show(v) for one in series])
        for place, name in enumerate(axis.full)
    ]


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
