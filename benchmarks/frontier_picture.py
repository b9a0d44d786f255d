"""The picture of the exact frontier, as an SVG that reads on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.frontier_world import Point

WIDTH, HEIGHT = 860, 520
LEFT, TOP, RIGHT, BOTTOM = 64, 24, 216, 56  # margins
HUES = ("#2f6fde", "#e0910a", "#0f9d76", "#d946a8", "#8b5cf6", "#dc2626", "#7c8798")  # read on white and on black
STYLE = """
  text { font: 13px system-ui, 'Segoe UI', sans-serif; fill: #3b4352 }
  .axis { stroke: #cfd4dc } .truth { stroke: #161a22; stroke-width: 2.5; fill: none } .name { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #c6ccd6 } .axis { stroke: #39414e } .truth { stroke: #e9ecf1 }
  }
"""


@dataclass(frozen=True)
class Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def picture(frontier: Sequence[Point], series: Mapping[str, Sequence[Point]], lines: Sequence[str]) -> str:
    """frontier: in order of KL. series: points by name; those named in `lines` are joined."""
    every = [*frontier, *(point for points in series.values() for point in points)]
    right = max(point.kl for point in every)
    across = Axis(0, right, LEFT, WIDTH - RIGHT)
    low, high = min(point.reward for point in every), max(point.reward for point in every)
    up = Axis(low - 0.05 * (high - low), high + 0.05 * (high - low), HEIGHT - BOTTOM, TOP)
    parts = [*_axes(across, up), _joined(frontier, across, up, 'class="truth"'), *_legend(list(series))]
    for hue, (name, points) in zip(HUES, series.items(), strict=False):
        if name in lines:
            parts.append(_joined(points, across, up, f'fill="none" stroke="{hue}" stroke-dasharray="4 3"'))
        parts += [_dot(across(point.kl), up(point.reward), hue, f"{name}: {said(point)}") for point in points]
    return _document(parts)


def said(point: Point) -> str:
    return f"KL {point.kl:.2f}, reward {point.reward:.2f}"


def _axes(across: Axis, up: Axis) -> list[str]:
    left, base = across.start, up.start
    parts = [f'<path class="axis" fill="none" d="M{left} {up.end}V{base}H{across.end}"/>']
    for kl in range(int(across.high) + 1):
        parts.append(f'<text x="{across(kl):.1f}" y="{base + 20}" text-anchor="middle">{kl}</text>')
    for reward in range(int(up.low // 1) + 1, int(up.high) + 1):
        parts.append(f'<text x="{left - 10}" y="{up(reward) + 4:.1f}" text-anchor="end">{reward}</text>')
        parts.append(f'<path class="axis" stroke-dasharray="1 4" d="M{left} {up(reward):.1f}H{across.end}"/>')
    middle, height = (across.start + across.end) / 2, (up.start + up.end) / 2
    parts.append(
        f'<text x="{middle}" y="{base + 44}" text-anchor="middle">KL from the reference, nats an answer</text>'
    )
    turned = f'transform="translate(20 {height}) rotate(-90)"'
    return [*parts, f'<text {turned} text-anchor="middle">reward</text>']


def _legend(names: Sequence[str]) -> list[str]:
    left = WIDTH - RIGHT + 28
    parts = [f'<path class="truth" d="M{left - 8} {TOP + 14}h16"/>']
    parts.append(f'<text class="name" x="{left + 18}" y="{TOP + 18}">the exact optimum</text>')
    for place, (hue, name) in enumerate(zip(HUES, names, strict=False), 1):
        middle = TOP + 14 + 26 * place
        parts.append(_dot(left, middle, hue, name))
        parts.append(f'<text x="{left + 18}" y="{middle + 4}">{name}</text>')
    return parts


def _joined(points: Sequence[Point], across: Axis, up: Axis, how: str) -> str:
    places = " ".join(f"{across(point.kl):.1f},{up(point.reward):.1f}" for point in points)
    return f'<polyline {how} points="{places}"/>'


def _dot(x: float, y: float, hue: str, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{hue}" fill-opacity="0.85"><title>{title}</title></circle>'


def _document(parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    title = "<title>Reward against KL: the exact frontier, and where each method ends</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"
