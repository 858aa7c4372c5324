"""Smooth shapes on an image that is a NumPy array.

An image is float64 `(height, width, 3)` with values 0..255; x runs right and y down, in pixels. The
distance of a pixel to the outline of a shape gives the share of the pixel that the shape covers, so
that edges are smooth. Every function paints into the image that is passed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Colour",
    "Image",
    "blend",
    "paint_box",
    "paint_disc",
    "paint_lines",
    "paint_number",
    "paint_ring",
    "paint_star",
]

Image: TypeAlias = NDArray[np.float64]
Colour: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]
Share: TypeAlias = Callable[[Image, Image], Image]

_SEGMENTS = {  # strokes of a digit in a box 1 wide and 2 high, y down
    "a": ((0, 0), (1, 0)),
    "b": ((1, 0), (1, 1)),
    "c": ((1, 1), (1, 2)),
    "d": ((0, 2), (1, 2)),
    "e": ((0, 1), (0, 2)),
    "f": ((0, 0), (0, 1)),
    "g": ((0, 1), (1, 1)),
}
_DIGITS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")


def blend(colour: Colour, other: Colour, share: float) -> Colour:
    """A colour with a share 0..1 of another one in it."""
    mixed = [round((1 - share) * a + share * b) for a, b in zip(colour, other, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def paint_box(
    image: Image, corner: Point, size: Point, colour: Colour, *, radius: float = 0.0
) -> None:
    """A box with rounded corners, from its top left corner and (width, height)."""
    half_x, half_y = size[0] / 2, size[1] / 2
    centre = corner[0] + half_x, corner[1] + half_y

    def share(x: Image, y: Image) -> Image:
        out_x = np.abs(x) - half_x + radius
        out_y = np.abs(y) - half_y + radius
        outside = np.hypot(np.maximum(out_x, 0), np.maximum(out_y, 0))
        return _coverage(outside + np.minimum(np.maximum(out_x, out_y), 0) - radius)

    _paint(image, centre, (half_x, half_y), share, colour)


def paint_disc(image: Image, centre: Point, radius: float, colour: Colour) -> None:
    """A filled circle."""

    def share(x: Image, y: Image) -> Image:
        return _coverage(np.hypot(x, y) - radius)

    _paint(image, centre, (radius, radius), share, colour)


def paint_ring(image: Image, centre: Point, radius: float, width: float, colour: Colour) -> None:
    """A circle drawn with a pen of the given width."""

    def share(x: Image, y: Image) -> Image:
        return _coverage(np.abs(np.hypot(x, y) - radius) - width / 2)

    _paint(image, centre, (radius + width, radius + width), share, colour)


def paint_lines(
    image: Image,
    lines: Sequence[tuple[Point, Point]],
    width: float,
    colour: Colour,
    *,
    opacities: Sequence[float] | None = None,
) -> None:
    """Straight lines with round ends and an opacity each; where two meet, the higher one counts."""
    if not lines:
        return
    strengths = [1.0] * len(lines) if opacities is None else opacities
    points = np.array(lines, dtype=np.float64).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    centre, half = (low + high) / 2, (high - low) / 2

    def share(x: Image, y: Image) -> Image:
        strongest = np.zeros(x.shape)
        for line, strength in zip(lines, strengths, strict=True):
            begin, end = np.array(line) - centre
            edge = end - begin
            along = ((x - begin[0]) * edge[0] + (y - begin[1]) * edge[1]) / max(edge @ edge, 1e-12)
            along = np.clip(along, 0, 1)
            gap = np.hypot(x - begin[0] - along * edge[0], y - begin[1] - along * edge[1])
            strongest = np.maximum(strongest, strength * _coverage(gap - width / 2))
        return strongest

    _paint(image, (centre[0], centre[1]), (half[0] + width, half[1] + width), share, colour)


def paint_star(image: Image, centre: Point, radius: float, colour: Colour) -> None:
    """A five-pointed star, one point up."""
    angles = np.pi * np.arange(10) / 5
    radii = np.where(np.arange(10) % 2 == 0, radius, 0.45 * radius)
    corners = np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=-1)

    def share(x: Image, y: Image) -> Image:
        nearest = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            edge_x, edge_y = x1 - x0, y1 - y0
            along = ((x - x0) * edge_x + (y - y0) * edge_y) / (edge_x**2 + edge_y**2)
            along = np.clip(along, 0, 1)
            gap = np.hypot(x - x0 - along * edge_x, y - y0 - along * edge_y)
            nearest = np.minimum(nearest, gap)
            if y0 != y1:
                crosses = (y0 > y) != (y1 > y)
                inside ^= crosses & (x < x0 + (y - y0) * edge_x / edge_y)
        return _coverage(np.where(inside, -nearest, nearest))

    _paint(image, centre, (radius, radius), share, colour)


def paint_number(image: Image, centre: Point, height: float, number: int, colour: Colour) -> None:
    """A whole number in strokes with round ends."""
    digits = str(number)
    stroke = height * 0.15
    tall = height - stroke
    wide = tall / 2
    advance = wide + 2.4 * stroke
    left = centre[0] - ((len(digits) - 1) * advance + wide) / 2
    top = centre[1] - tall / 2
    strokes: list[tuple[Point, Point]] = []
    for position, digit in enumerate(digits):
        shift = wide / 2 if digit == "1" else 0.0  # its strokes are at the right of the box
        x = left + position * advance - shift
        for segment in _DIGITS[int(digit)]:
            (x0, y0), (x1, y1) = _SEGMENTS[segment]
            begin = x + x0 * wide, top + y0 * tall / 2
            end = x + x1 * wide, top + y1 * tall / 2
            strokes.append((begin, end))
    paint_lines(image, strokes, stroke, colour)


def _coverage(distance: Image) -> Image:
    """Share of a pixel inside an outline at that signed distance (negative inside)."""
    return np.clip(0.5 - distance, 0, 1)


def _paint(
    image: Image, centre: Point, reach: tuple[float, float], share: Share, colour: Colour
) -> None:
    """Mix a colour into the image; `share` maps pixel offsets from the centre to its share."""
    height, width = image.shape[:2]
    left, right = _span(centre[0], reach[0], width)
    top, bottom = _span(centre[1], reach[1], height)
    shape = (bottom - top, right - left)
    x = np.broadcast_to(np.arange(left, right) + 0.5 - centre[0], shape)
    y = np.broadcast_to(np.arange(top, bottom)[:, None] + 0.5 - centre[1], shape)
    region = image[top:bottom, left:right]
    region += share(x, y)[..., None] * (np.array(colour) - region)


def _span(middle: float, reach: float, end: int) -> tuple[int, int]:
    """First and last + 1 pixel that a shape may touch."""
    return max(int(middle - reach - 1), 0), min(int(middle + reach + 2), end)
