"""Painters of rooms: bedroom, corridor, library."""

import itertools

import numpy as np

from .palette import CLOTHS, FLOORS, WALLS, WOODS
from .room import Room, block, boards, bookcase, door, shell, window
from .scene import Pair, Scene

BULB = (1.0, 0.90, 0.70)


def bedroom(scene: Scene) -> None:
    """Paint a bedroom: a bed with its head at the end wall, and sometimes lamps, a cupboard, a window or a rug."""
    room = room_around(scene, depth=(1.0, 2.0), narrow=0.0, eye=(0.2, 0.4))
    wood = scene.pick(*WOODS)
    floor = wood * 0.9 if scene.chance(0.6) else scene.pick((0.62, 0.57, 0.50), (0.48, 0.46, 0.46))
    wall = scene.pick(*WALLS)
    shell(scene, room, wall=wall, floor=floor, ceiling=(0.88, 0.87, 0.85), fade=scene.between(-0.05, 0.15))
    if scene.chance(0.6):
        boards(scene, room, floor * 0.75, y=1, lengthwise=scene.count(6, 14), crosswise=0)
    wall_things(scene, room)
    if scene.mixed or scene.chance(0.1):
        wall = scene.count(0, 2)
        wall_case(scene, room, wall, 0.3, 0.9, wood, top=0.25)
    x = scene.between(0.12, 0.45)
    wide = scene.between(0.28, 0.45)
    if scene.chance(0.4):
        rug = scene.pick(*CLOTHS)
        scene.polygon(room.face((x - 0.12, x + wide + 0.15), 1, (0.15, 0.7)), scene.tone(rug * 0.9))
    for at in (x - 0.14, x + wide + 0.03):
        if scene.chance(0.65):
            block(scene, room, (at, at + 0.11), (0.80, 1.0), (0.80, 0.97), wood)
            _table_lamp(scene, room, at + 0.055)
    if scene.chance(0.4):
        side = 0.0 if scene.chance(0.5) else 0.88
        block(scene, room, (side, side + 0.12), (scene.between(0.2, 0.45), 1.0), (0.45, 0.95), wood * 0.95)
    _bed(scene, room, x, wide, wood)


def _bed(scene: Scene, room: Room, x: float, wide: float, wood: np.ndarray) -> None:
    sheet, cover = scene.pick((0.93, 0.92, 0.90), (0.84, 0.86, 0.90)), scene.pick(*CLOTHS)
    foot, top, fold = scene.between(0.0, 0.35), scene.between(0.70, 0.80), scene.between(0.55, 0.75)
    left, right = x - 0.012, x + wide + 0.012
    scene.polygon(room.face((left, right), (top - 0.22, 1), 0.98), scene.tone(wood * 0.9))
    block(scene, room, (x, x + wide), (top + 0.08, 1.0), (foot, 0.97), wood * 0.8)
    block(scene, room, (x, x + wide), (top, top + 0.12), (foot, 0.97), sheet)
    block(scene, room, (left, right), (top - 0.012, top + scene.between(0.10, 0.18)), (foot - 0.01, fold), cover)
    if scene.chance(0.4):
        for at in foot + (fold - foot) * np.linspace(0.1, 0.9, 6):
            stripe = room.points([(x, top - 0.012, at), (x + wide, top - 0.012, at)])
            scene.line(stripe, scene.tone(cover * 0.8), 0.008)
    pillows = 2 if wide > 0.28 else 1
    for k in range(pillows):
        start = x + wide * (k + 0.08) / pillows
        across, linen = (start, start + 0.84 * wide / pillows), sheet * scene.between(0.9, 1.05)
        block(scene, room, across, (top - 0.06, top), (fold + 0.08, 0.94), linen)


def _table_lamp(scene: Scene, room: Room, x: float) -> None:
    if scene.chance(0.3):
        return
    foot, shade = room.point(x, 0.80, 0.9), room.point(x, 0.68, 0.9)
    scene.line([foot, shade], scene.tone((0.35, 0.28, 0.20)), 0.010)
    lit = scene.light.dark or scene.chance(0.3)
    cloth = np.asarray(BULB) if lit else scene.tone((0.85, 0.80, 0.70))
    x, y = shade
    scene.polygon([(x - 0.035, y), (x - 0.02, y - 0.05), (x + 0.02, y - 0.05), (x + 0.035, y)], cloth)
    if lit:
        scene.glow(x, y - 0.02, 0.25, BULB, 0.6)


def corridor(scene: Scene) -> None:
    """Paint a long corridor with doors or windows, ceiling lamps and an end wall."""
    room = room_around(scene, depth=(2.0, 4.0) if scene.mixed else (4.0, 11.0), narrow=scene.between(0.0, 0.25))
    wall, floor = scene.pick(*WALLS), scene.pick(*FLOORS)
    ceiling = scene.pick((0.86, 0.86, 0.85), (0.72, 0.72, 0.72))
    shell(scene, room, wall=wall, floor=floor, ceiling=ceiling, fade=scene.between(-0.1, 0.5))
    style = scene.rng.random()
    if style < 0.6:
        boards(scene, room, floor * 0.8, y=1, lengthwise=scene.count(2, 7), crosswise=scene.count(8, 18))
    if scene.chance(0.35):
        boards(scene, room, (0.62, 0.62, 0.62), y=0, lengthwise=3, crosswise=12)
    if scene.chance(0.45):
        _dado(scene, room, wall)
    _openings(scene, room)
    ceiling_lamps(scene, room)
    end_wall(scene, room)


def _dado(scene: Scene, room: Room, wall: np.ndarray) -> None:
    low = scene.between(0.58, 0.72)
    paint = scene.tone(wall * scene.pick((0.6, 0.7, 0.8), (0.75, 0.65, 0.55), (0.6, 0.75, 0.65)))
    for side in (0, 1):
        scene.polygon(room.face(side, (low, 1), (0, 1)), paint * (0.85 + 0.1 * side))


def _openings(scene: Scene, room: Room) -> None:
    wood, gap = scene.pick(*WOODS, (0.35, 0.45, 0.52)), scene.between(0.12, 0.3)
    for side in (0, 1):
        kind = scene.rng.random()
        z = scene.between(0.02, 0.15)
        while z < 0.9:
            if scene.mixed and kind < 0.5:
                wall_case(scene, room, side, z, min(0.95, z + 0.7 * gap), wood, top=0.3, shelves=4)
            elif kind < 0.75:
                door(scene, room, side, z, 0.45 * gap, wood)
            elif kind < 0.92:
                pane = scene.light.rim * 0.75 + scene.light.zenith * 0.25
                scene.polygon(room.face(side, (0.2, 0.72), (z, z + 0.6 * gap)), pane)
            z += gap


def library(scene: Scene) -> None:
    """Paint a library: an aisle between bookcases, or a reading room with bookcases behind tables."""
    aisle = scene.chance(0.55)
    depth, narrow = ((2.0, 6.0), scene.between(0.0, 0.2)) if aisle else ((0.6, 1.6), 0.0)
    room = room_around(scene, depth=depth, narrow=narrow)
    wood = scene.pick(*WOODS[:4], (0.60, 0.60, 0.60))
    floor = scene.pick((0.50, 0.38, 0.27), (0.42, 0.42, 0.44), (0.40, 0.25, 0.24), (0.36, 0.42, 0.38))
    shell(scene, room, wall=scene.pick(*WALLS), floor=floor, ceiling=(0.84, 0.83, 0.80), fade=scene.between(0.0, 0.3))
    if scene.chance(0.5):
        boards(scene, room, floor * 0.8, y=1, lengthwise=5, crosswise=8)
    top, shelves = scene.between(0.05, 0.35), scene.count(4, 8)
    if aisle:
        _aisle(scene, room, wood, top, shelves)
    else:
        _reading_room(scene, room, wood, top, shelves)
    if scene.chance(0.6):
        ceiling_lamps(scene, room)


def _aisle(scene: Scene, room: Room, wood: np.ndarray, top: float, shelves: int) -> None:
    walls = (scene.count(0, 2),) if scene.mixed else (0, 1)
    bays = scene.count(2, 5)
    for wall in walls:
        edges = np.linspace(0.0, 0.95, bays + 1) ** 1.3
        for near, far in reversed(list(itertools.pairwise(edges))):
            face = room.face(wall, (top, 1.0), (near, far))
            bookcase(scene, face, wood, shelves=shelves, books=int(22 / bays) + 4)
    if scene.mixed:
        for z in (0.15, 0.5):
            door(scene, room, 1 - walls[0], z, 0.15, wood)
    if scene.chance(0.5):
        bookcase(scene, room.face((0.2, 0.8), (top, 1), 1), wood, shelves=shelves, books=14)
    else:
        end_wall(scene, room)


def _reading_room(scene: Scene, room: Room, wood: np.ndarray, top: float, shelves: int) -> None:
    share = scene.between(0.35, 0.55) if scene.mixed else scene.between(0.75, 1.0)
    left = scene.between(0, 1 - share)
    edges = np.linspace(left, left + share, scene.count(2, 5))
    if scene.mixed or scene.chance(0.2):
        wall_things(scene, room)
    for a, b in itertools.pairwise(edges):
        bookcase(scene, room.face((a, b), (top, 0.98), 1), wood, shelves=shelves, books=int(44 * (b - a)) + 4)
    for wall in (0, 1):
        if scene.chance(0.4) and not scene.mixed:
            wall_case(scene, room, wall, 0.1, 0.9, wood, top=top, shelves=shelves)
    for _ in range(scene.count(0, 3)):
        x, z = scene.between(0.1, 0.5), scene.between(0.1, 0.6)
        wide = scene.between(0.2, 0.4)
        for leg in (x + 0.01, x + wide - 0.03):
            block(scene, room, (leg, leg + 0.02), (0.80, 1.0), (z + 0.02, z + 0.04), wood * 0.7)
        block(scene, room, (x, x + wide), (0.77, 0.80), (z, z + 0.25), wood)


def room_around(scene: Scene, *, depth: Pair, narrow: float, eye: Pair = (0.35, 0.58)) -> Room:
    """Return a random room around the camera.

    `depth` and `eye` are the ranges of `Room.depth` and of the vanishing point's y, which are random. `narrow` is
    how far each side wall moves towards the middle. Lengths are in unit coordinates.
    """
    vanish = scene.between(0.3, 0.7), scene.between(*eye)
    ceiling, floor = scene.between(-0.35, -0.05), scene.between(1.05, 1.3)
    return Room(vanish, -0.25 + narrow, 1.25 - narrow, ceiling, floor, scene.between(*depth))


def wall_things(scene: Scene, room: Room) -> None:
    """Draw a window with curtains, or one to three framed pictures, on the end wall."""
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
    """Draw a bookcase against a side wall (0 left, 1 right) in the color `wood`.

    `near` and `far` are the depths of the two ends and `top` is the y of the upper edge, in room coordinates (`Room`).
    """
    x = 0.05 if wall == 0 else 0.95
    bookcase(scene, room.face(x, (top, 0.98), (near, far)), wood, shelves=shelves, books=max(5, int(24 * (far - near))))


def ceiling_lamps(scene: Scene, room: Room) -> None:
    """Draw a row of ceiling lamps, usually lit."""
    lit = not scene.chance(0.15)
    color = np.array((1.0, 0.98, 0.92)) if lit else scene.tone((0.7, 0.7, 0.7))
    wide, count = scene.between(0.08, 0.25), scene.count(3, 9)
    shine = scene.between(0.0, 0.6) * lit
    for z in np.linspace(0.95, 0.02, count):
        z1 = min(1.0, float(z) + 0.4 / count)
        scene.polygon(room.face((0.5 - wide, 0.5 + wide), 0.005, (z, z1)), color)
        x, y = room.point(0.5, 1, float(z))
        scene.glow(x, y, 0.35 / (1 + 0.5 * room.depth * float(z)), color, 0.5 * shine)


def end_wall(scene: Scene, room: Room) -> None:
    """Draw a double door or a bright opening in the end wall."""
    (left, top), (right, bottom) = room.point(0.2, 0.25, 1), room.point(0.8, 1.0, 1)
    if scene.chance(0.5):
        scene.box(left, top, right, bottom, scene.tone(scene.pick(*WOODS)))
        scene.line([((left + right) / 2, top), ((left + right) / 2, bottom)], scene.tone((0.2, 0.2, 0.2)), 0.004)
    else:
        scene.box(left, top, right, bottom - 0.25 * (bottom - top), scene.light.rim * 0.8 + 0.2)
        scene.glow((left + right) / 2, (top + bottom) / 2, 0.25, scene.light.rim, 0.7)
