"""Rooms as a camera sees them, made up: (H, W) uint8, with furniture, shade and texture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]


def room(seed: int, height_px: int = 256, width_px: int = 448) -> Grey:
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height_px, 0:width_px]
    picture = (90 + 40 * rows / height_px + 30 * np.sin(columns / width_px * 3)).astype(np.float32)
    for _ in range(24):
        wide, high = chance.integers(width_px // 20, width_px // 5), chance.integers(height_px // 16, height_px // 4)
        x, y = int(chance.integers(0, width_px - wide)), int(chance.integers(0, height_px - high))
        cv2.rectangle(picture, (x, y), (x + int(wide), y + int(high)), float(chance.integers(20, 235)), -1)
    texture = cv2.GaussianBlur(chance.normal(0, 1, picture.shape).astype(np.float32), (0, 0), 1.0)
    picture += 12 * texture / texture.std()
    return np.clip(picture, 0, 255).astype(np.uint8)


def blurred(picture: Grey, sigma_px: float) -> Grey:
    """By a lens out of focus."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), np.uint8)


def moved(picture: Grey, x_px: int, y_px: int) -> Grey:
    """The camera was turned; what comes into view is the rest mirrored."""
    shift = np.array([[1, 0, x_px], [0, 1, y_px]], np.float32)
    size_px = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.warpAffine(picture, shift, size_px, borderMode=cv2.BORDER_REFLECT), np.uint8)


def covered(picture: Grey, seed: int, share: float = 1.0, grey: float = 70.0) -> Grey:
    """A bag before the left ``share`` of the lens: far out of focus, uneven in light."""
    chance = np.random.default_rng(seed)
    height_px, width_px = picture.shape
    folds = cv2.GaussianBlur(chance.normal(0, 1, picture.shape).astype(np.float32), (0, 0), height_px / 8)
    bag = grey + 12 * folds / folds.std()
    mask = np.zeros(picture.shape, np.float32)
    mask[:, : round(width_px * share)] = 1.0
    if share < 1.0:
        mask = cv2.GaussianBlur(mask, (0, 0), width_px * 0.02)
    return np.clip(picture * (1 - mask) + bag * mask, 0, 255).astype(np.uint8)


def lit(picture: Grey, share: float) -> Grey:
    """The same room with so much of its light."""
    return np.clip(picture * share, 0, 255).astype(np.uint8)
