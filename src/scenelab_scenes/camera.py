"""The camera: conversion of a painted scene to an image by framing, blur, exposure and sensor noise."""

import numpy as np
from PIL import Image, ImageFilter

from .difficulty import NUISANCE
from .texture import grain, static

DARKEST = 48  # minimum mean gray level (0 to 255); darker scenes are brightened to it


def expose(image: Image.Image, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return the camera's image of a scene painted at twice `size`, as uint8 RGB of shape (size, size, 3)."""
    framed = _frame(image, rng, size)
    if rng.random() < 0.35 * NUISANCE:
        framed = framed.filter(ImageFilter.BoxBlur(float(rng.uniform(0.3, 1.0)) * NUISANCE * size / 128))
    picture = np.asarray(_develop(framed, rng)) * np.repeat(_uneven_light(rng, size), 3, axis=1).reshape(size, size, 3)
    sigma = 255 * float(rng.gamma(2.0, 0.007)) * NUISANCE
    picture += sigma * static(rng, picture.shape)
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


def _frame(image: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """Return a randomly flipped, rotated, zoomed and shifted view of `size`×`size` pixels, without empty borders."""
    side = image.width
    angle = float(np.deg2rad(np.clip(rng.normal(0, 2.5 * NUISANCE), -12, 12)))
    spread = abs(np.cos(angle)) + abs(np.sin(angle))
    zoom = spread * float(rng.uniform(1.0, 1.0 + 0.35 * min(NUISANCE, 2)))
    step = side / zoom / size
    slack = (side - side / zoom * spread) / 2
    x, y = side / 2 + rng.uniform(-1, 1, 2) * slack
    flip = -1.0 if rng.random() < 0.5 else 1.0
    a, b, d, e = flip * step * np.cos(angle), -step * np.sin(angle), flip * step * np.sin(angle), step * np.cos(angle)
    half = size / 2
    matrix = (a, b, x - (a + b) * half, d, e, y - (d + e) * half)
    return image.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _uneven_light(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return brightness factors, float32 (size, size): vignetting and a low-frequency variation."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    corner = 1 - float(rng.uniform(0, 0.16)) * NUISANCE * (axis[None, :] ** 2 + axis[:, None] ** 2) / 2
    return corner * (1 + 0.03 * NUISANCE * grain(rng, size, size, width=12, height=12))


def _develop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the image with random exposure, white balance, saturation and contrast; brighten dark scenes."""
    mean = float(np.asarray(picture.reduce(4)).mean())
    gain = np.exp(rng.normal(0, 0.10 * NUISANCE) + rng.normal(0, 0.025 * NUISANCE, 3))
    gain = gain * max(1.0, DARKEST / max(mean, 10))
    saturation = 1 + NUISANCE * float(rng.uniform(-0.25, 0.15))
    contrast = 1 + NUISANCE * float(rng.uniform(-0.15, 0.15))
    matrix = contrast * gain[:, None] * (saturation * np.eye(3) + (1 - saturation) / 3)
    offset = gain * mean * (1 - contrast)
    return picture.convert("RGB", tuple(np.column_stack([matrix, offset]).ravel().tolist()))
