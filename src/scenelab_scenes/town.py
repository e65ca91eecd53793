"""Painters of built outdoor places: harbor, highway, skyscraper."""

import copy

import numpy as np

from .backdrop import backdrop
from .buildings import house, tower
from .land import ground
from .palette import FACADES, GREENS, SANDS, SEAS
from .plants import broadleaf, conifer
from .scene import Pair, Scene
from .sky import sky
from .traffic import car, crane, lamp_post, road, sailboat, toward
from .water import mirror, sea


def harbor(scene: Scene) -> None:
    """Paint a harbor: moored boats in calm water in front of a quay with houses or a crane."""
    sky(scene)
    backdrop(scene, "hills houses none", "city range wood")
    quay = scene.horizon + 0.015
    if not scene.mixed and scene.chance(0.8):
        _waterfront(scene, quay)
    sea(scene, scene.pick(*SEAS), top=quay, swell=scene.between(0.03, 0.07))
    for near in np.sort(scene.rng.uniform(0, 0.12, scene.count(2, 10))):
        x, length = scene.between(0, 1), scene.between(0.05, 0.12)
        sailboat(scene, x, quay + float(near) * 0.2, length, sail=False, distance=0.4)
    mirror(scene, quay + 0.01, 0.4, strength=scene.between(0.35, 0.8))
    count = int(scene.rng.integers(1, 3) if scene.mixed else scene.rng.integers(2, 7))
    for near in np.sort(scene.rng.uniform(0.1, 1, count)):
        water, length = quay + 0.03 + (0.9 - quay) * float(near), 0.10 + 0.26 * float(near)
        x = scene.between(0, 1)
        scene.ellipse(x, water + 0.05 * length, 0.55 * length, 0.08 * length, scene.tone((0.08, 0.14, 0.18)))
        sailboat(scene, x, water, length, sail=scene.chance(0.12), distance=0.2 * (1 - float(near)))
    if scene.chance(0.45):
        _jetty(scene)


def _waterfront(scene: Scene, quay: float) -> None:
    x = scene.between(-0.1, 0.2)
    while x < 1.05:
        wide = scene.between(0.07, 0.16)
        if scene.chance(0.75):
            house(scene, x, quay, wide, distance=0.35)
        x += wide * scene.between(1.0, 1.4)
    if scene.chance(0.3):
        crane(scene, scene.between(0.1, 0.9), quay, scene.between(0.2, 0.38), distance=0.3)
    scene.box(-0.1, quay - 0.012, 1.1, quay + 0.02, scene.tone((0.42, 0.40, 0.38), 0.3))


def _jetty(scene: Scene) -> None:
    """Draw a wooden jetty that leads from the camera over the water."""
    far_x, far_y, near_x = scene.between(0.2, 0.8), scene.horizon + scene.between(0.12, 0.3), scene.between(-0.1, 1.1)
    wood = scene.tone(scene.pick((0.50, 0.42, 0.33), (0.60, 0.56, 0.50)))
    wide = scene.between(0.10, 0.22)
    for side in (-1, 1):
        for part in (0.15, 0.35, 0.6, 0.95):
            x, y = far_x + (near_x - far_x) * part + side * (0.02 + wide * part), far_y + (1.05 - far_y) * part
            scene.line([(x, y - 0.10 * part), (x, y + 0.12 * part)], wood * 0.55, 0.012 + 0.03 * part)
    scene.polygon([(far_x - 0.02, far_y), (far_x + 0.02, far_y), (near_x + wide, 1.05), (near_x - wide, 1.05)], wood)
    for part in np.linspace(0.1, 1, 16) ** 2:
        x, y = far_x + (near_x - far_x) * part, far_y + (1.05 - far_y) * part
        scene.line([(x - wide * part - 0.01, y), (x + wide * part + 0.01, y)], wood * 0.75, 0.004)


def highway(scene: Scene) -> None:
    """Paint a straight highway with lanes, and mostly with cars, trees, lamps or signs, in open land."""
    sky(scene)
    backdrop(scene, "hills wood none range", "city mesas dunes cranes")
    land = scene.pick(*GREENS, *SANDS[:2], (0.74, 0.60, 0.30))
    ground(scene, land, land * 0.95, contrast=0.14)
    vanish = scene.between(0.25, 0.75), scene.horizon + 0.004
    wide, lanes = scene.between(0.5, 1.5), scene.count(2, 5)
    if scene.mixed:
        wide, lanes = scene.between(0.3, 0.6), 2
    left = vanish[0] + scene.between(-0.25, 0.25) - wide / 2
    road(scene, vanish, left, left + wide, lanes=lanes, divided=scene.chance(0.5))
    _roadside(scene, vanish, left, left + wide)
    count = scene.count(0, 7) * (not scene.mixed)
    for near in np.sort(scene.rng.uniform(0.08, 0.75, count)) ** 1.4:
        lane = (scene.count(0, lanes) + 0.5) / lanes
        x, y = toward(vanish, left + wide * lane, float(near))
        car(scene, x, y, 0.62 * wide / lanes * float(near), oncoming=lane < 0.5)


def _roadside(scene: Scene, vanish: Pair, left: float, right: float) -> None:
    lamps, rail, trees = scene.chance(0.35), scene.chance(0.4), scene.chance(0.45)
    steel = scene.tone((0.66, 0.67, 0.68))
    for side, edge in ((-1, left), (1, right)):
        foot = edge + side * 0.15 * (right - left)
        if rail:
            scene.polygon([vanish, (foot, 1.0), (foot, 0.93)], steel)
        for k in range(7, 0, -1):
            part = 0.9 / k**1.1
            x, y = toward(vanish, foot, part)
            if lamps:
                lamp_post(scene, x, y, 0.75 * part, reach=-side * 0.2 * part)
            elif trees and scene.chance(0.8):
                plant = conifer if scene.chance(0.4) else broadleaf
                x, tall = x + side * scene.between(0.1, 0.5) * part, scene.between(0.3, 0.7) * part
                plant(scene, x, y, tall, scene.pick(*GREENS), distance=0.5 * (1 - part))
    if scene.chance(0.25):
        _gantry(scene, vanish, left, right)


def _gantry(scene: Scene, vanish: Pair, left: float, right: float) -> None:
    part = scene.between(0.2, 0.5)
    x0, x1 = (vanish[0] + (edge - vanish[0]) * part * 1.2 for edge in (left, right))
    base = vanish[1] + (1.05 - vanish[1]) * part
    top, steel = base - 0.75 * part, scene.tone((0.5, 0.5, 0.52), 0.2)
    for x in (x0, x1):
        scene.box(x - 0.012, top, x + 0.012, base, steel)
    scene.box(x0, top, x1, top + 0.018, steel)
    board = scene.tone(scene.pick((0.06, 0.36, 0.20), (0.10, 0.24, 0.52)), 0.1)
    for a, b in ((0.08, 0.46), (0.54, 0.92)):
        u, v = x0 + (x1 - x0) * a, x0 + (x1 - x0) * b
        scene.box(u, top - 0.10 * part, v, top + 0.16 * part, board)
        inset = 0.15 * (v - u)
        scene.box(u + inset, top, v - inset, top + 0.03 * part, scene.tone((0.9, 0.9, 0.9), 0.1))


def skyscraper(scene: Scene) -> None:
    """Paint skyscrapers, seen from the street looking up, or across a square, a park or water."""
    base = 1.1 if scene.chance(0.4) and not scene.mixed else scene.between(0.72, 0.98)
    sky(scene, min(1.0, base))
    if base < 1 and scene.chance(0.6):
        scene = _at(scene, base)
        backdrop(scene, "city", "hills wood range")
    converge = scene.between(0.0, 0.45) if base > 1 else scene.between(0.0, 0.12)
    count = int(scene.rng.integers(1, 3) if scene.mixed else scene.rng.integers(2, 6))
    for distance in np.linspace(0.8, 0.1, count):
        _tower_block(scene, base, converge, float(distance))
    if base < 1:
        _forecourt(scene, base)


def _at(scene: Scene, horizon: float) -> Scene:
    """Return a copy of the scene with a different horizon that draws on the same image."""
    twin = copy.copy(scene)
    twin.horizon = horizon
    return twin


def _tower_block(scene: Scene, base: float, converge: float, distance: float) -> None:
    x, wide = scene.between(-0.1, 0.85), scene.between(0.14, 0.34) * (1.2 - 0.6 * distance)
    top = base - scene.between(0.45, 1.0) * (1.25 if base > 1 else 0.85)
    color, flank = scene.pick(*FACADES), wide * scene.between(0.2, 0.6)
    side = 1 if x + wide / 2 < 0.5 else -1
    slant = 0.05 * scene.between(0.3, 1.5)
    floors, bays = scene.count(12, 34), scene.count(4, 11)

    def lean(px: float, py: float) -> Pair:
        return px + (0.5 - px) * converge * (base - py), py

    front = np.array([lean(x, base), lean(x, top), lean(x + wide, top), lean(x + wide, base)])
    edge = x + wide if side > 0 else x
    out = edge + side * flank
    face = np.array([lean(edge, base), lean(edge, top), lean(out, top + slant), lean(out, base)])
    tower(scene, face, color * 0.62, floors=floors, bays=max(2, bays // 2), distance=distance)
    tower(scene, front, color, floors=floors, bays=bays, distance=distance)
    if scene.chance(0.3):
        tip = lean(x + wide / 2, top)
        scene.line([tip, (tip[0], tip[1] - scene.between(0.04, 0.15))], scene.tone((0.5, 0.5, 0.5), distance), 0.008)


def _forecourt(scene: Scene, base: float) -> None:
    choice = scene.rng.random()
    if choice < 0.3:
        sea(scene, scene.pick(*SEAS), top=base, swell=0.05)
        mirror(scene, base, 0.3, strength=0.6)
        return
    paving = scene.pick((0.40, 0.40, 0.41), (0.55, 0.53, 0.50)) if choice < 0.65 else scene.pick(*GREENS)
    ground(_at(scene, base), paving, paving, contrast=0.1)
    for x in scene.rng.uniform(0, 1, scene.count(0, 8)):
        if choice < 0.65 and scene.chance(0.5):
            y, wide = base + scene.between(0.02, 0.06), scene.between(0.05, 0.09)
            car(scene, float(x), y, wide, oncoming=scene.chance(0.5))
        else:
            broadleaf(scene, float(x), base + 0.02, scene.between(0.08, 0.18), scene.pick(*GREENS), distance=0.1)
