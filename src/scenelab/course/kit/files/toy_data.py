"""Draw a toy data set of twelve kinds of pictures in MiniPlaces' layout: python ./toy_data.py toy

It takes about a minute. python ./main.py ../toy trains on it; 88 of the 100 outputs of the network stay unused.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 128
TRAIN, VAL = 240, 40  # images of each kind
KINDS = "rows columns diagonals checkers disc ring square triangle cross dots waves fog".split()


def shape(kind, x, y, random):
    """Values between 0 and 1 at places x and y between -1 and 1; they mix the two colours of the picture."""
    size, phase = random.uniform(0.35, 0.8), random.uniform(0, 2 * math.pi)
    wide = random.uniform(8, 20)
    radius = np.hypot(x, y)
    if kind == "rows":
        return np.sin(wide * y + phase) > 0
    if kind == "columns":
        return np.sin(wide * x + phase) > 0
    if kind == "diagonals":
        return np.sin(wide * (x + y) / 1.4 + phase) > 0
    if kind == "checkers":
        return (np.sin(wide * x + phase) > 0) ^ (np.sin(wide * y + phase) > 0)
    if kind == "disc":
        return radius < size
    if kind == "ring":
        return abs(radius - size) < 0.12
    if kind == "square":
        return np.maximum(abs(x), abs(y)) < size
    if kind == "triangle":
        return (y < size) & (y > 2 * abs(x) - size)
    if kind == "cross":
        return (np.minimum(abs(x), abs(y)) < 0.15) & (np.maximum(abs(x), abs(y)) < size)
    if kind == "dots":
        return np.hypot(np.sin(wide * x / 2 + phase), np.sin(wide * y / 2)) < 0.5
    if kind == "waves":
        return np.sin(wide * (y + 0.2 * np.sin(6 * x + phase))) > 0
    return (x * math.cos(phase) + y * math.sin(phase) + 1.5) / 3  # fog: a slope


def picture(kind, random):
    """A picture of a kind: moved, in two random colours, with noise."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    across, down = random.uniform(-0.25, 0.25, 2)
    mixed = shape(kind, x - across, y - down, random)[..., None]
    dark, light = random.uniform(0, 110, 3), random.uniform(140, 255, 3)
    values = dark + (light - dark) * mixed + random.normal(0, 12, (SIDE, SIDE, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def main(folder):
    """Draw train and val into FOLDER/images, and list them in FOLDER/train.txt and val.txt."""
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        lines = []
        for label, kind in enumerate(KINDS):
            (folder / "images" / split / kind).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                name = f"{split}/{kind}/{number:04}.jpg"
                picture(kind, random).save(folder / "images" / name, quality=90)
                lines.append(f"{name} {label}\n")
            print(f"{split}: {kind} ({label + 1} of {len(KINDS)})", flush=True)
        (folder / f"{split}.txt").write_text("".join(lines), "utf-8")
    (folder / "categories.txt").write_text("".join(f"{kind} {n}\n" for n, kind in enumerate(KINDS)), "utf-8")


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("folder", nargs="?", default="toy", type=Path)
    main(flags.parse_args().folder)
