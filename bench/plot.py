"""The one picture: how long a read takes against the number of transactions."""

from collections.abc import Mapping
from math import log10
from pathlib import Path
from typing import Any

import pygal
from pygal.style import CleanStyle


def write(read_ms: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """Draw milliseconds by number of transactions, both axes logarithmic, one line per way of reading."""
    chart = pygal.XY(
        logarithmic=True,
        title="One read of a group's balance, in milliseconds, by its number of transactions",
        x_title="transactions",
        y_title="ms (logarithmic)",
        style=CleanStyle(font_family="sans-serif"),
        js=[],
        width=900,
        height=500,
        legend_at_bottom=True,
        show_x_guides=True,
        x_value_formatter=lambda exponent: f"{10**exponent:,.0f}",
        value_formatter=lambda value: f"{value:,.4g}",
    )
    chart.x_labels = sorted({log10(count) for points in read_ms.values() for count in points})
    chart.y_labels = [1, 10, 100, 1_000, 10_000]
    for name, points in read_ms.items():
        chart.add(name, [(log10(count), milliseconds) for count, milliseconds in sorted(points.items())])
    chart.add_xml_filter(_without_scripts)
    chart.render_to_file(str(path))


def _without_scripts(root: Any) -> Any:
    """A picture needs none, and most places where a README is shown refuse them."""
    for parent in list(root.iter()):
        for script in parent.findall("script"):
            parent.remove(script)
    return root
