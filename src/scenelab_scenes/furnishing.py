"""What rooms share: a box around the camera, windows, pictures, bookcases, ceiling lamps, a far door."""

import numpy as np

from .palette import CLOTHS, WALLS, WOODS
from .room import Room, bookcase, window
from .scene import Scene


def room_around(
    scene: Scene, *, depth: tuple[float, float], narrow: float, eye: tuple[float, float] = (0.35, 0.58)
) -> Room:
    """A box around the camera, whose `eye` is that high; a larger `narrow` brings the side walls in."""
    vanish = scene.between(0.3, 0.7), scene.between(*eye)
    ceiling, floor = scene.between(-0.35, -0.05), scene.between(1.05, 1.3)
    return Room(vanish, -0.25 + narrow, 1.25 - narrow, ceiling, floor, scene.between(*depth))


def wall_things(scene: Scene, room: Room) -> None:
    """A window with curtains or some pictures on the end wall."""
    if scene.chance(0.55):
        u, wide = scene.between(0.08, 0.5), scene.between(0.25, 0.45)
        (left, top), (right, bottom) = room.point(u, 0.18, 1), room.point(u + wide, scene.between(0.55, 0.7), 1)
        window(scene, left, top, right, bottom)
        cloth, hang = scene.tone(scene.pick(*CLOTHS)), scene.between(0.02, 0.06)
        for edge, out in ((left, -1), (right, 1)):
            for fold in range(3):
                a = edge + out * hang * (fold / 3 - 0.4)
                a, b = sorted((a, a + out * hang / 2))
                scene.box(a, top - 0.03, b, bottom + 0.08, cloth * (0.85 + 0.1 * fold))
        return
    for _ in range(scene.count(1, 4)):
        u, v, size = scene.between(0.1, 0.8), scene.between(0.2, 0.45), scene.between(0.08, 0.18)
        (left, top), (right, bottom) = room.point(u, v, 1), room.point(u + size, v + 0.8 * size, 1)
        scene.box(left, top, right, bottom, scene.tone((0.20, 0.16, 0.13)))
        scene.box(left + 0.01, top + 0.01, right - 0.01, bottom - 0.01, scene.tone(scene.pick(*CLOTHS, *WALLS)))


def wall_case(
    scene: Scene, room: Room, wall: int, near: float, far: float, wood: np.ndarray, *, top: float, shelves: int = 5
) -> None:
    """A bookcase against a side wall."""
    x = 0.05 if wall == 0 else 0.95
    bookcase(scene, room.face(x, (top, 0.98), (near, far)), wood, shelves=shelves, books=max(5, int(24 * (far - near))))


def ceiling_lamps(scene: Scene, room: Room) -> None:
    """Draw a row of lamps, mostly lit, along the ceiling."""
    lit = not scene.chance(0.15)
    colour = np.array((1.0, 0.98, 0.92)) if lit else scene.tone((0.7, 0.7, 0.7))
    wide, count = scene.between(0.08, 0.25), scene.count(3, 9)
    shine = scene.between(0.0, 0.6) * lit
    for z in np.linspace(0.95, 0.02, count):
        z1 = min(1.0, float(z) + 0.4 / count)
        scene.polygon(room.face((0.5 - wide, 0.5 + wide), 0.005, (z, z1)), colour)
        x, y = room.point(0.5, 1, float(z))
        scene.glow(x, y, 0.35 / (1 + 0.5 * room.depth * float(z)), colour, 0.5 * shine)


def end_wall(scene: Scene, room: Room, wall: np.ndarray) -> None:
    """Draw a door or a bright opening at the far end."""
    (left, top), (right, bottom) = room.point(0.2, 0.25, 1), room.point(0.8, 1.0, 1)
    if scene.chance(0.5):
        scene.box(left, top, right, bottom, scene.tone(scene.pick(*WOODS)))
        scene.line([((left + right) / 2, top), ((left + right) / 2, bottom)], scene.tone((0.2, 0.2, 0.2)), 0.004)
    else:
        scene.box(left, top, right, bottom - 0.25 * (bottom - top), scene.light.rim * 0.8 + 0.2)
        scene.glow((left + right) / 2, (top + bottom) / 2, 0.25, scene.light.rim, 0.7)
