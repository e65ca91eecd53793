"""Rooms in one-point perspective, and their furniture."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .palette import SPINES
from .scene import Color, Pair, Scene, planes
from .texture import grain

Span = float | Pair


@dataclass(frozen=True)
class Room:
    """Room seen in one-point perspective.

    Room coordinates run from 0 to 1: x from left to right wall, y from ceiling to floor, z from near to the end wall.
    """

    vanish: Pair  # vanishing point; all lengths here are in unit image coordinates
    left: float  # x of the left wall at z = 0, usually outside the image
    right: float
    ceiling: float  # y of the ceiling at z = 0
    floor: float
    depth: float  # the end wall is 1 + depth times smaller than the opening at z = 0

    def point(self, x: float, y: float, z: float) -> Pair:
        """Project a point from room coordinates to unit image coordinates.

        The distance to the vanishing point is scaled by 1 / (1 + depth · z).
        """
        scale = 1 / (1 + self.depth * z)
        near = self.left + (self.right - self.left) * x, self.ceiling + (self.floor - self.ceiling) * y
        return self.vanish[0] + (near[0] - self.vanish[0]) * scale, self.vanish[1] + (near[1] - self.vanish[1]) * scale

    def points(self, corners: Iterable[tuple[float, float, float]]) -> np.ndarray:
        """Project k points from room to unit image coordinates; return an array (k, 2)."""
        return np.array([self.point(*corner) for corner in corners])

    def face(self, x: Span, y: Span, z: Span) -> np.ndarray:
        """Project a rectangle parallel to a wall; return its corners in unit image coordinates, (4, 2).

        One of x, y, z is a number, the others are pairs (start, end). The corners are in order around the rectangle.
        The first is at both starts, the second at the end of x, or at the end of z if x is the number.
        """
        x, y, z = (part if isinstance(part, tuple) else (part, part) for part in (x, y, z))
        if x[0] == x[1]:
            return self.points([(x[0], y[0], z[0]), (x[0], y[0], z[1]), (x[0], y[1], z[1]), (x[0], y[1], z[0])])
        return self.points([(x[0], y[0], z[0]), (x[1], y[0], z[0]), (x[1], y[1], z[1]), (x[0], y[1], z[1])])


def shell(scene: Scene, room: Room, *, wall: Color, floor: Color, ceiling: Color, fade: float) -> None:
    """Draw walls, floor and ceiling, darker (fade > 0) or brighter (fade < 0) towards the end wall."""
    strips = np.linspace(0, 1, 9) ** 1.5
    for z0, z1 in itertools.pairwise(strips):
        shade = 1 - fade * (z0 + z1) / 2
        floors = ((floor, 1.0, (0, 1), 1), (ceiling, 1.0, (0, 1), 0))
        for color, level, x, y in (*floors, (wall, 0.86, 0, (0, 1)), (wall, 0.97, 1, (0, 1))):
            scene.polygon(room.face(x, y, (z0, z1)), scene.tone(color) * level * shade)
    scene.polygon(room.face((0, 1), (0, 1), 1), scene.tone(wall) * (1 - fade))


def boards(scene: Scene, room: Room, color: Color, *, y: float, lengthwise: int, crosswise: int) -> None:
    """Draw `lengthwise` + `crosswise` seams of planks or tiles on the floor (y = 1) or ceiling (y = 0)."""
    seam = scene.tone(color)
    for x in np.linspace(0, 1, lengthwise + 2)[1:-1] if lengthwise else ():
        scene.line(room.points([(x, y, 0), (x, y, 1)]), seam, 0.004)
    for z in np.linspace(0, 1, crosswise + 2)[1:-1] if crosswise else ():
        scene.line(room.points([(0, y, z), (1, y, z)]), seam, 0.004)


def block(scene: Scene, room: Room, x: Pair, y: Pair, z: Pair, color: Color) -> None:
    """Draw a box inside the room: its front, and its top and left or right side where visible."""
    tint, (left, top) = scene.tone(color), room.point(x[0], y[0], z[0])
    if top > room.vanish[1]:
        scene.polygon(room.face(x, y[0], z), tint * 1.12)
    if left > room.vanish[0]:
        scene.polygon(room.face(x[0], y, z), tint * 0.72)
    if room.point(x[1], y[0], z[0])[0] < room.vanish[0]:
        scene.polygon(room.face(x[1], y, z), tint * 0.78)
    scene.polygon(room.face(x, y, z[0]), tint * 0.9)


def door(scene: Scene, room: Room, wall: int, z: float, width: float, color: Color) -> None:
    """Draw a door with frame and knob in a side wall (0 left, 1 right), starting at depth `z`."""
    top = 0.28
    frame = room.face(wall, (top - 0.03, 1), (z - 0.1 * width, z + 1.1 * width))
    scene.polygon(frame, scene.tone(np.multiply(color, 0.6)))
    scene.polygon(room.face(wall, (top, 1), (z, z + width)), scene.tone(color))
    x, y = room.point(wall, 0.66, z + 0.12 * width)
    scene.ellipse(x, y, 0.006, 0.006, scene.tone((0.85, 0.78, 0.5)))


def window(scene: Scene, left: float, top: float, right: float, bottom: float) -> None:
    """Draw a framed window with a view of sky and land; its four edges are in unit image coordinates."""
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


def bookcase(scene: Scene, corners: np.ndarray, wood: Color, *, shelves: int, books: int) -> None:
    """Draw a bookcase with about `books` books per shelf on a quadrilateral.

    `corners` are four points in unit coordinates, shape (4, 2): top left, top right, bottom right, bottom left.
    """
    board = scene.tone(wood)
    scene.polygon(corners, board * 0.38)
    thick = scene.rng.uniform(0.5, 1.6, (shelves, 2 * books)) / books
    right = 0.02 + np.cumsum(thick, axis=1)
    left = right - 0.93 * thick
    low = np.broadcast_to((np.arange(shelves)[:, None] + 0.92) / shelves, right.shape)
    high = low - scene.rng.uniform(0.55, 0.80, right.shape) / shelves
    there = (right < 0.985) & (scene.rng.random(right.shape) > 0.06)
    spines = np.asarray(SPINES)[scene.rng.integers(len(SPINES), size=right.shape)]
    tints = spines * scene.rng.uniform(0.7, 1.15, (*right.shape, 1))
    quads = np.stack([_at(corners, u, v) for u, v in ((left, low), (left, high), (right, high), (right, low))], axis=2)
    scene.polygons(quads[there], (tints * scene.light.tint)[there])
    edge = (np.arange(shelves) + 0.92) / shelves
    low, none, full = edge + 0.12 / shelves, np.zeros(shelves), np.ones(shelves)
    lips = np.stack([_at(corners, u, v) for u, v in ((none, edge), (full, edge), (full, low), (none, low))], axis=1)
    scene.polygons(lips, np.broadcast_to(board, (shelves, 3)))
    for start, end in ((0, 3), (1, 2)):
        scene.line(corners[[start, end]], board, 0.012)


def _at(corners: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the points (..., 2) of a quadrilateral at (u, v) in [0, 1]², by bilinear interpolation of its corners.

    `corners` are clockwise from the top left, shape (4, 2).
    """
    a, b, c, d = corners
    u, v = u[..., None], v[..., None]
    return (a + (b - a) * u) * (1 - v) + (d + (c - d) * u) * v
