"""Painter of bedrooms."""

import numpy as np

from .furnishing import room_around, wall_case, wall_things
from .palette import CLOTHS, WALLS, WOODS
from .room import Room, block, boards, shell
from .scene import Scene

BULB = (1.0, 0.90, 0.70)


def bedroom(scene: Scene) -> None:
    """A bed with its head to the end wall or to a side wall, among lamps, cupboards, a window, a rug."""
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
