"""The one picture: how long a read takes against the number of transactions."""

from collections.abc import Mapping
from pathlib import Path

import pygal
from pygal.style import CleanStyle


def write(read_ms: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """Draw milliseconds by number of transactions, both axes logarithmic, one line per way of reading."""
    chart = pygal.XY(
        logarithmic=True,
        xrange=None,
        title="One read of a group's balance, in milliseconds, by its number of transactions",
        x_title="transactions",
        y_title="ms (logarithmic)",
        style=CleanStyle(font_family="sans-serif"),
        js=[],
        width=900,
        height=500,
        legend_at_bottom=True,
        show_x_guides=True,
        x_value_formatter=lambda value: f"{value:,.0f}",
        value_formatter=lambda value: f"{value:,.1f}",
    )
    for name, points in read_ms.items():
        chart.add(name, sorted(points.items()))
    chart.render_to_file(str(path))
