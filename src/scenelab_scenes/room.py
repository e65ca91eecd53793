"""Rooms in one-point perspective: a box that the camera looks into, and what stands in it."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .scene import Colour, Scene, planes
from .texture import grain


@dataclass(frozen=True, kw_only=True)
class Room:
    """A box: x runs from left to right wall, y from ceiling to floor, z from near to the end wall, each 0 to 1."""

    vanish: tuple[float, float]
    left: float  # image coordinate of the left wall's near edge, mostly outside the image
    right: float
    ceiling: float
    floor: float
    depth: float  # how many times smaller the end wall is than the near opening, less one

    def point(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Project a point of the room to unit image coordinates: p = v + (near - v) / (1 + depth z)."""
        scale = 1 / (1 + self.depth * z)
        near = self.left + (self.right - self.left) * x, self.ceiling + (self.floor - self.ceiling) * y
        return self.vanish[0] + (near[0] - self.vanish[0]) * scale, self.vanish[1] + (near[1] - self.vanish[1]) * scale

    def points(self, corners: Iterable[tuple[float, float, float]]) -> np.ndarray:
        """Project several points, (k, 2)."""
        return np.array([self.point(*corner) for corner in corners])


def shell(scene: Scene, room: Room, *, wall: Colour, floor: Colour, ceiling: Colour, fade: float) -> None:
    """Paint walls, floor and ceiling, in strips that darken (fade > 0) or brighten (fade < 0) towards the end wall."""
    strips = np.linspace(0, 1, 9) ** 1.5
    for z0, z1 in itertools.pairwise(strips):
        shade = 1 - fade * (z0 + z1) / 2
        for colour, level, ends in (
            (floor, 1.0, ((0, 1), (1, 1))),
            (ceiling, 1.0, ((0, 0), (1, 0))),
            (wall, 0.86, ((0, 0), (0, 1))),
            (wall, 0.97, ((1, 0), (1, 1))),
        ):
            (ax, ay), (bx, by) = ends
            quad = room.points([(ax, ay, z0), (bx, by, z0), (bx, by, z1), (ax, ay, z1)])
            scene.polygon(quad, scene.tone(colour) * level * shade)
    scene.polygon(room.points([(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]), scene.tone(wall) * (1 - fade))


def boards(scene: Scene, room: Room, colour: Colour, *, y: float, lengthwise: int, crosswise: int) -> None:
    """Lines of planks or tiles on the floor (y = 1) or the ceiling (y = 0)."""
    seam = scene.tone(colour)
    for x in np.linspace(0, 1, lengthwise + 2)[1:-1] if lengthwise else ():
        scene.line(room.points([(x, y, 0), (x, y, 1)]), seam, 0.004)
    for z in np.linspace(0, 1, crosswise + 2)[1:-1] if crosswise else ():
        scene.line(room.points([(0, y, z), (1, y, z)]), seam, 0.004)


def block(
    scene: Scene, room: Room, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], colour: Colour
) -> None:
    """A box inside the room: the side turned to the camera, the top if seen from above and one flank."""
    tint = scene.tone(colour)
    (x0, x1), (y0, y1), (z0, z1) = x, y, z
    eye = room.point(x0, y0, z0)
    if eye[1] > room.vanish[1]:
        scene.polygon(room.points([(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)]), tint * 1.12)
    if eye[0] > room.vanish[0]:
        scene.polygon(room.points([(x0, y0, z0), (x0, y0, z1), (x0, y1, z1), (x0, y1, z0)]), tint * 0.72)
    if room.point(x1, y0, z0)[0] < room.vanish[0]:
        scene.polygon(room.points([(x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)]), tint * 0.78)
    scene.polygon(room.points([(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)]), tint * 0.9)


def door(scene: Scene, room: Room, wall: int, z: float, width: float, colour: Colour) -> None:
    """A door in a side wall (0 left, 1 right), its frame and its knob."""
    top = 0.28
    scene.polygon(
        room.points(
            [
                (wall, top - 0.03, z - 0.1 * width),
                (wall, top - 0.03, z + 1.1 * width),
                (wall, 1, z + 1.1 * width),
                (wall, 1, z - 0.1 * width),
            ]
        ),
        scene.tone(np.multiply(colour, 0.6)),
    )
    scene.polygon(
        room.points([(wall, top, z), (wall, top, z + width), (wall, 1, z + width), (wall, 1, z)]), scene.tone(colour)
    )
    x, y = room.point(wall, 0.66, z + 0.12 * width)
    scene.ellipse(x, y, 0.006, 0.006, scene.tone((0.85, 0.78, 0.5)))


def window(scene: Scene, left: float, top: float, right: float, bottom: float) -> None:
    """A window in the end wall with the sky, a hint of land, a frame and a cross bar."""
    n = scene.side
    rows, columns = scene.row(bottom) - scene.row(top), int((right - left) * n)
    if rows < 6 or columns < 6:
        return
    height = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    view = np.repeat(planes(scene.light.zenith) * (1 - height) + planes(scene.light.rim) * height, columns, axis=2)
    land = grain(scene.rng, 1, columns, width=40, height=2) * 0.06 + scene.between(0.5, 0.8)
    green = scene.tone(scene.pick((0.30, 0.40, 0.22), (0.45, 0.45, 0.48)), 0.4)
    view = np.where(height > land, planes(green), view)
    scene.lay(view, row=scene.row(top), column=max(0, int(left * n)))
    frame = scene.tone(scene.pick((0.92, 0.92, 0.90), (0.45, 0.32, 0.22)))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    scene.line(corners, frame, 0.016)
    scene.line([((left + right) / 2, top), ((left + right) / 2, bottom)], frame, 0.011)
    if scene.chance(0.6):
        scene.line([(left, (top + bottom) / 2), (right, (top + bottom) / 2)], frame, 0.011)


_SPINES = (
    (0.55, 0.16, 0.14),
    (0.16, 0.24, 0.42),
    (0.20, 0.36, 0.24),
    (0.62, 0.50, 0.30),
    (0.80, 0.76, 0.66),
    (0.35, 0.22, 0.14),
    (0.16, 0.16, 0.18),
    (0.55, 0.36, 0.18),
    (0.40, 0.20, 0.36),
)


def bookcase(scene: Scene, corners: np.ndarray, wood: Colour, *, shelves: int, books: int) -> None:
    """Draw shelves of about `books` books each on any quadrilateral.

    `corners`, (4, 2) in unit coordinates, are top left, top right, bottom right, bottom left.
    """
    board = scene.tone(wood)
    scene.polygon(corners, board * 0.38)
    thick = scene.rng.uniform(0.5, 1.6, (shelves, 2 * books)) / books
    right = 0.02 + np.cumsum(thick, axis=1)
    left = right - 0.93 * thick
    low = np.broadcast_to((np.arange(shelves)[:, None] + 0.92) / shelves, right.shape)
    high = low - scene.rng.uniform(0.55, 0.80, right.shape) / shelves
    there = (right < 0.985) & (scene.rng.random(right.shape) > 0.06)
    tints = np.asarray(_SPINES)[scene.rng.integers(len(_SPINES), size=right.shape)] * scene.rng.uniform(
        0.7, 1.15, (*right.shape, 1)
    )
    quads = np.stack(
        [_span(corners, u, v) for u, v in ((left, low), (left, high), (right, high), (right, low))], axis=2
    )
    scene.polygons(quads[there], (tints * scene.light.tint)[there])
    edge = (np.arange(shelves) + 0.92) / shelves
    lips = np.stack(
        [
            _span(corners, np.full(shelves, u), v)
            for u, v in ((0, edge), (1, edge), (1, edge + 0.12 / shelves), (0, edge + 0.12 / shelves))
        ],
        axis=1,
    )
    scene.polygons(lips, np.broadcast_to(board, (shelves, 3)))
    for start, end in ((0, 3), (1, 2)):
        scene.line(corners[[start, end]], board, 0.012)


def _span(corners: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Points at (u, v), 0 to 1 each, of a quadrilateral (4, 2) given clockwise from its top left: (..., 2)."""
    a, b, c, d = corners
    u, v = u[..., None], v[..., None]
    return (a + (b - a) * u) * (1 - v) + (d + (c - d) * u) * v
