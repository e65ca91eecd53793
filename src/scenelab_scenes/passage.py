"""Painters of rooms to walk through: corridor, library."""

import itertools

import numpy as np

from .furnishing import ceiling_lamps, end_wall, room_around, wall_case, wall_things
from .palette import FLOORS, WALLS, WOODS
from .room import Room, block, boards, bookcase, door, shell
from .scene import Scene


def corridor(scene: Scene) -> None:
    """A long passage in one-point perspective: doors, ceiling lamps, a shining floor, a far wall."""
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
    end_wall(scene, room, wall)


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
    """Shelves of books: an aisle between them, or a wall of them behind tables."""
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
        end_wall(scene, room, wood)


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
