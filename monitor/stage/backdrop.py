"""The still part of a camera's view: a room cast ray by ray, with its light, and how far each pixel is.

Painted once a scene, at twice the size and averaged down; what moves is drawn over it frame by frame.
Legend: H, W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from monitor.flow import Floats, Pictures
from monitor.stage.layout import FAMILIES, Box, Layout, Pose

_FAR = np.float32(1e6)
Colour = tuple[int, int, int]


class Lens:
    """The pinhole camera of a pose: world metres to pixels and back."""

    def __init__(self, pose: Pose, width_px: int, height_px: int) -> None:
        self.width_px, self.height_px = width_px, height_px
        self.focal_px = pose.focal * width_px
        self.position = np.array([pose.x_m, pose.y_m, pose.z_m])
        sin_y, cos_y, sin_p, cos_p = np.sin(pose.yaw), np.cos(pose.yaw), np.sin(pose.pitch), np.cos(pose.pitch)
        # Rows: the camera's right, up and forward in world coordinates (yaw to the right, pitch down).
        self.axes = np.array(
            [[cos_y, 0, -sin_y], [sin_y * sin_p, cos_p, cos_y * sin_p], [sin_y * cos_p, -sin_p, cos_y * cos_p]]
        )

    def project(self, points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(..., 3) world metres → (..., 2) pixels and (...) depth in metres, clamped to 0.2 m before the lens."""
        seen = (points - self.position) @ self.axes.T
        depth = np.maximum(seen[..., 2], 0.2)
        pixels = seen[..., :2] / depth[..., None] * self.focal_px
        pixels[..., 0] += self.width_px / 2
        pixels[..., 1] = self.height_px / 2 - pixels[..., 1]
        return pixels, depth

    def rays(self, scale: int) -> Floats:
        """(H*scale, W*scale, 3) directions in the world, whose forward component is 1 metre."""
        u = (np.arange(self.width_px * scale, dtype=np.float32) + 0.5) / scale - self.width_px / 2
        v = self.height_px / 2 - (np.arange(self.height_px * scale, dtype=np.float32) + 0.5) / scale
        axes = self.axes.astype(np.float32)
        across = u[None, :, None] / np.float32(self.focal_px) * axes[0]
        return np.asarray(across + v[:, None, None] / np.float32(self.focal_px) * axes[1] + axes[2], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backdrop:
    """``picture`` (H, W, 3) uint8 RGB and ``depth`` (H, W) float32, metres along the optical axis."""

    picture: Pictures
    depth: Floats


def paint(layout: Layout, lens: Lens, *, night: bool, seed: int) -> Backdrop:
    """Cast the room. The same arguments give the same picture."""
    random = np.random.default_rng((seed, 3))
    rays = lens.rays(2)
    camera = lens.position.astype(np.float32)
    depth = np.full(rays.shape[:2], _FAR, np.float32)
    picture = np.zeros(rays.shape, np.float32)
    grain = cloud(random, 512, octaves=6)
    _cast_room(layout, camera, rays, depth, picture, grain, random, night)
    for box in layout.boxes:
        (_cast_tank if box.round else _cast_box)(box, camera, rays, depth, picture, grain)
    points = camera + rays * depth[..., None]
    picture *= _light(layout, points, random, night)[..., None]
    if night:  # an infrared picture has no colour
        picture[:] = picture.mean(axis=2, keepdims=True)
    # Automatic exposure, as every camera has it: the median to a fixed grey.
    picture *= (62.0 if night else 112.0) / max(1.0, float(np.median(picture)))
    size = (lens.width_px, lens.height_px)
    small = cv2.resize(np.minimum(picture, 255), size, interpolation=cv2.INTER_AREA)
    return Backdrop(
        picture=np.clip(small * _vignette(*size)[..., None], 0, 255).astype(np.uint8),
        depth=np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST), np.float32),
    )


def cloud(random: np.random.Generator, size: int, octaves: int) -> Floats:
    """(size, size) fractal noise in [0, 1] that tiles."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = 4 << octave
        coarse = np.pad(random.random((cells, cells), dtype=np.float32), 2, mode="wrap")
        factor = size // cells
        fine = cv2.resize(coarse, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        total += fine[2 * factor : 2 * factor + size, 2 * factor : 2 * factor + size] / (1 << octave)
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / (high - low), np.float32)


def _look_up(texture: Floats, a: Floats, b: Floats, metres: float) -> Floats:
    """The texture at surface coordinates, one tile every ``metres``."""
    size = texture.shape[0]
    scale = size / metres
    return np.asarray(texture[(b * scale).astype(np.int32) % size, (a * scale).astype(np.int32) % size], np.float32)


def _cast_room(
    layout: Layout, camera: Floats, rays: Floats, depth: Floats, picture: Floats, grain: Floats,
    random: np.random.Generator, night: bool,
) -> None:  # fmt: skip
    family = FAMILIES[layout.family]
    half = layout.width_m / 2
    # (axis, plane, painter); the near wall is behind the camera
    heights = np.sort(random.uniform(0.55, 0.93, family.pipes)) * layout.height_m
    with np.errstate(divide="ignore", invalid="ignore"):
        for axis, plane in ((1, 0.0), (1, layout.height_m), (0, -half), (0, half), (2, layout.depth_m)):
            distance = (plane - camera[axis]) / rays[..., axis]
            hit = (distance > 0) & (distance < depth)
            depth[hit] = distance[hit]
            points = camera + rays[hit] * distance[hit][:, None]
            x, y, z = points[:, 0], points[:, 1], points[:, 2]
            if axis == 1 and plane == 0.0:
                picture[hit] = _floor(family.floor, family.floor_rgb, x, z, grain, layout)
            elif axis == 1:
                picture[hit] = _ceiling(family.wall_rgb, x, z, grain, night)
            else:
                along = z if axis == 0 else x - layout.door_x_m
                colour = _wall(family.wall, family.wall_rgb, along, y, grain)
                _pipes(colour, y, heights, int(random.integers(0, 3)))
                if axis == 2:
                    _door(colour, along, y)
                elif family.windows:
                    _windows(colour, along, y, layout, night)
                picture[hit] = colour


def _floor(kind: str, rgb: Colour, x: Floats, z: Floats, grain: Floats, layout: Layout) -> Floats:
    worn = 0.72 + 0.34 * _look_up(grain, x, z, 7.0) + 0.16 * _look_up(grain, x, z, 1.3)
    if kind == "tiles":
        worn = worn * np.where((np.abs(x % 0.6 - 0.3) > 0.285) | (np.abs(z % 0.6 - 0.3) > 0.285), 0.72, 1.0)
    elif kind == "plates":
        checks = ((np.floor(x * 5) + np.floor(z * 5)) % 2) * 0.06
        worn = worn * (0.96 + checks) * np.where(np.abs(z % 2.0 - 1.0) > 0.985, 0.6, 1.0)
    else:
        worn = worn * np.where((np.abs(x % 3.0 - 1.5) > 1.485) | (np.abs(z % 3.0 - 1.5) > 1.485), 0.75, 1.0)
    colour = np.asarray(rgb, np.float32) * worn[:, None]
    if kind == "lanes":
        edge = (np.abs(x - layout.free_x_m[0]) < 0.06) | (np.abs(x - layout.free_x_m[1]) < 0.06)
        faded = 0.6 + 0.4 * _look_up(grain, x, z, 2.0)[edge][:, None]
        colour[edge] = np.array([206, 178, 60], np.float32) * faded
    spill = _look_up(grain, x + 3, z + 5, 11.0) > 0.74
    colour[spill] *= 0.78
    return np.asarray(colour, np.float32)


def _ceiling(rgb: Colour, x: Floats, z: Floats, grain: Floats, night: bool) -> Floats:
    colour = np.asarray(rgb, np.float32) * (0.5 + 0.15 * _look_up(grain, x, z, 5.0))[:, None]
    colour[np.abs(z % 3.0 - 1.5) > 1.35] *= 0.55  # beams
    lamp = (np.abs(x % 3.0 - 1.5) < 0.12) & (np.abs(z % 4.0 - 2.0) < 0.7)
    colour[lamp] = 120.0 if night else 420.0
    return np.asarray(colour, np.float32)


def _wall(kind: str, rgb: Colour, along: Floats, y: Floats, grain: Floats) -> Floats:
    worn = 0.82 + 0.22 * _look_up(grain, along, y, 4.0) + 0.08 * _look_up(grain, along, y, 0.7)
    if kind == "corrugated":
        worn = worn * (0.88 + 0.12 * np.sin(along * 2 * np.pi / 0.3))
    elif kind == "brick":
        row = np.floor(y / 0.11)
        joint = (y % 0.11 < 0.014) | ((along + (row % 2) * 0.14) % 0.28 < 0.014)
        worn = worn * np.where(joint, 1.16, 0.9 + 0.14 * np.sin(row * 12.9 + np.floor(along / 0.28) * 78.2))
    elif kind == "panel":
        worn = worn * np.where((along % 1.2 < 0.03) | (np.abs(y - 1.4) < 0.02), 0.7, 1.0)
    colour = np.asarray(rgb, np.float32) * worn[:, None]
    if kind in ("painted", "brick"):
        colour[y < 1.2] *= np.array([0.62, 0.72, 0.74], np.float32)
    colour[y < 0.12] *= 0.5
    return np.asarray(colour, np.float32)


def _pipes(colour: Floats, y: Floats, heights: npt.NDArray[np.float64], tint: int) -> None:
    paints = np.array([[150, 150, 150], [120, 140, 110], [168, 120, 70]], np.float32)
    for number, height in enumerate(heights):
        radius = 0.07 + 0.05 * (number % 2)
        across = (y - height) / radius
        on = np.abs(across) < 1
        shade = 0.35 + 0.75 * np.sqrt(1 - across[on] ** 2) * (0.6 + 0.4 * across[on])
        colour[on] = paints[(number + tint) % 3] * shade[:, None]
        colour[(across <= -1) & (across > -2.2)] *= 0.72  # its shadow


def _door(colour: Floats, along: Floats, y: Floats) -> None:
    frame = (np.abs(along) < 0.95) & (y < 2.45)
    colour[frame] = (70, 74, 78)
    leaf = (np.abs(along) < 0.85) & (y < 2.35)
    colour[leaf] = np.array([84, 104, 120], np.float32) * (0.8 + 0.1 * np.sign(along[leaf]))[:, None]
    colour[leaf & (np.abs(along) < 0.02)] *= 0.5


def _windows(colour: Floats, along: Floats, y: Floats, layout: Layout, night: bool) -> None:
    top, bottom = layout.height_m - 0.5, layout.height_m - 1.5
    pane = (y < top) & (y > bottom) & (along % 2.6 < 1.7)
    colour[pane] = (24, 28, 40) if night else (330, 345, 360)
    bars = pane & ((along % 2.6 % 0.57 < 0.05) | (np.abs(y - (top + bottom) / 2) < 0.03))
    colour[bars] = (80, 84, 86)


def _cast_box(box: Box, camera: Floats, rays: Floats, depth: Floats, picture: Floats, grain: Floats) -> None:
    lows = np.array([box.x_m[0], 0.0, box.z_m[0]], np.float32)
    highs = np.array([box.x_m[1], box.height_m, box.z_m[1]], np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (lows - camera) / rays, (highs - camera) / rays
    enter, leave = np.minimum(a, b), np.maximum(a, b)
    near = enter.max(axis=2)
    hit = (near > 0) & (near < leave.min(axis=2)) & (near < depth)
    depth[hit] = near[hit]
    points = camera + rays[hit] * near[hit][:, None]
    face = enter[hit].argmax(axis=1)
    along = np.where(face == 0, points[:, 2] - lows[2], points[:, 0] - lows[0])
    up = np.where(face == 1, points[:, 2] - lows[2], points[:, 1])
    shade = np.array([0.78, 1.1, 0.92], np.float32)[face] * (0.8 + 0.3 * _look_up(grain, along, up, 3.0))
    colour = np.asarray(box.rgb, np.float32) * shade[:, None]
    _detail(box, colour, along, up, face != 1)
    picture[hit] = colour


def _detail(box: Box, colour: Floats, along: Floats, up: Floats, side: npt.NDArray[np.bool_]) -> None:
    """What a box wears: seams, doors, shelves, warning stripes."""
    if box.kind == "rack":
        level = up % 0.95
        goods = side & (level > 0.1) & (level < 0.72) & (along % 0.8 < 0.66)
        tone = 0.6 + 0.5 * np.abs(np.sin(np.floor(along / 0.8) * 5.1 + np.floor(up / 0.95) * 3.7))
        colour[goods] = np.array([158, 128, 88], np.float32) * tone[goods][:, None]
        colour[side & (level >= 0.72)] *= 0.35
    elif box.kind == "crates":
        colour[side & ((up % 0.62 < 0.05) | (along % 0.6 < 0.04))] *= 0.55
        colour[side & (up % 0.155 < 0.02)] *= 0.75
    elif box.kind == "cabinet":
        colour[side & (along % 0.6 < 0.025)] *= 0.5
        colour[side & (np.abs(along % 0.6 - 0.5) < 0.03) & (np.abs(up - 1.1) < 0.1)] *= 0.4
    elif box.kind in ("press", "lathe"):
        stripe = side & (up < 0.22)
        colour[stripe] = np.where(((along[stripe] + up[stripe]) % 0.4 < 0.2)[:, None], (196, 168, 40), (40, 40, 38))
        colour[side & (np.abs(up - 0.6 * box.height_m) < 0.015)] *= 0.5
        panel = side & (np.abs(along - 0.4) < 0.22) & (np.abs(up - 1.0) < 0.18)
        colour[panel] = (52, 56, 60)
    elif box.kind == "conveyor":
        colour[side & (up < 0.55) & (along % 1.5 > 0.12)] *= 0.3
        colour[~side] = (46, 46, 48)


def _cast_tank(box: Box, camera: Floats, rays: Floats, depth: Floats, picture: Floats, grain: Floats) -> None:
    centre_x, centre_z, radius = sum(box.x_m) / 2, sum(box.z_m) / 2, (box.x_m[1] - box.x_m[0]) / 2
    from_x, from_z = camera[0] - centre_x, camera[2] - centre_z
    a = rays[..., 0] ** 2 + rays[..., 2] ** 2
    b = from_x * rays[..., 0] + from_z * rays[..., 2]
    root = b**2 - a * (from_x**2 + from_z**2 - radius**2)
    near = (-b - np.sqrt(np.maximum(root, 0))) / a
    height = camera[1] + rays[..., 1] * near
    hit = (root > 0) & (near > 0) & (near < depth) & (height > 0) & (height < box.height_m)
    depth[hit] = near[hit]
    turn = (from_x + rays[..., 0] * near)[hit] / radius
    up = height[hit]
    shade = (0.42 + 0.75 * np.sqrt(np.maximum(0, 1 - (turn * 0.8 + 0.25) ** 2))) * (
        0.88 + 0.2 * _look_up(grain, turn * 2, up, 3.0)
    )
    shade = shade * np.where(up % 0.72 < 0.03, 0.65, 1.0)
    picture[hit] = np.asarray(box.rgb, np.float32) * shade[:, None]
    band = hit & (np.abs(height - 0.7 * box.height_m) < 0.12)
    picture[band] *= np.array([1.0, 0.7, 0.45], np.float32)


def _light(layout: Layout, points: Floats, random: np.random.Generator, night: bool) -> Floats:
    """How bright each point is: lamps under the ceiling, daylight, corners in shade."""
    if night:
        ambient, power, lamps = 0.16, 2.2, [(0.0, layout.depth_m * 0.3)]
    else:
        ambient, power = 0.42, 2.0
        lamps = [(x * layout.width_m / 4, z) for x in (-1, 1) for z in np.arange(2, layout.depth_m, 4)]
    light = np.full(points.shape[:2], ambient, np.float32)
    for x, z in lamps:
        strength = power * float(random.uniform(0.7, 1.1))
        away = (points[..., 0] - x) ** 2 + (points[..., 1] - layout.height_m) ** 2 + (points[..., 2] - z) ** 2
        light += (strength / (3.0 + away)).astype(np.float32)
    half = layout.width_m / 2
    to_edge = np.minimum(half - np.abs(points[..., 0]), layout.depth_m - points[..., 2])
    corner = np.minimum(np.maximum(to_edge, 0), np.maximum(points[..., 1], 0) + 0.3)
    return np.asarray(light * (0.72 + 0.28 * np.clip(corner / 0.6, 0, 1)), np.float32)


def _vignette(width_px: int, height_px: int) -> Floats:
    u = np.linspace(-1, 1, width_px, dtype=np.float32)
    v = np.linspace(-1, 1, height_px, dtype=np.float32) * (height_px / width_px)
    return np.asarray(1 - 0.22 * (u[None, :] ** 2 + v[:, None] ** 2), np.float32)
