"""Synthetic scenes for object detection: textured, overlapping shapes on cluttered backgrounds.

A scene is geometry first: outlines in drawing order and, for each, the exact part of it that stays
visible (:func:`sample_scene`). :func:`render` then draws that geometry, so annotation and pixels have one
source. The category of an object shows in its outline alone: colours and textures are drawn independently
of it, and the background wears the same textures.

Coordinates are those of COCO polygons: continuous, in pixels, x to the right and y down, pixel (i, j)
covering [i, i + 1] x [j, j + 1].
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from shapely import affinity
from shapely.geometry import MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

# Diameter of an object before stretching, as a share of the image's short side.
OBJECT_SIZE = (0.18, 0.5)
# An object that shows less of its full area than this no longer tells its shape.
MIN_VISIBLE = 0.6
# In square pixels; smaller visible fragments are beneath what a mask of pixels can hold.
MIN_FRAGMENT = 16.0
# Places tried for one object before the scene does without it.
PLACEMENT_TRIALS = 50
# Sub-pixels a side, from which the coverage of a pixel is averaged; OpenCV widens outlines by half of one.
SUPERSAMPLING = 8


@dataclass(frozen=True)
class SceneObject:
    """One drawn object.

    Attributes:
        category (str): A key of :data:`OUTLINES`.
        outline (Polygon): The whole outline, which later objects and the image border may cut.
    """
    category: str
    outline: Polygon


@dataclass(frozen=True)
class Scene:
    """Objects in drawing order: later ones cover earlier ones.

    Attributes:
        width (int): Width of the image in pixels.
        height (int): Height of the image in pixels.
        objects (list[SceneObject]): At least one object.
        visible (list[BaseGeometry]): Visible part of each object, Polygon or MultiPolygon, without holes.
    """
    width: int
    height: int
    objects: list[SceneObject]
    visible: list[BaseGeometry]

    def fragments(self, index: int) -> list[Polygon]:
        """Polygons that make up the visible part of object ``index``: several where it is cut apart."""
        return list(getattr(self.visible[index], 'geoms', [self.visible[index]]))


def _radial(radii: np.ndarray, start: float = 0.0) -> Polygon:
    """The polygon with vertices at these radii, at equal angles around the origin from ``start``."""
    angles = start + np.arange(len(radii)) * 2 * np.pi / len(radii)
    return Polygon(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def _circle(rng: np.random.Generator) -> Polygon:
    return Point(0, 0).buffer(1.0, quad_segs=16)


def _rectangle(rng: np.random.Generator) -> Polygon:
    return _radial(np.ones(4), start=np.pi / 4)


def _triangle(rng: np.random.Generator) -> Polygon:
    return _radial(rng.uniform(0.9, 1.1, size=3))


def _star(rng: np.random.Generator) -> Polygon:
    return _radial(np.tile([1.0, rng.uniform(0.42, 0.52)], 5))


def _cross(rng: np.random.Generator) -> Polygon:
    arm = rng.uniform(0.26, 0.36)
    return box(-1, -arm, 1, arm).union(box(-arm, -1, arm, 1))


def _blob(rng: np.random.Generator) -> Polygon:
    """A smooth lobed outline for the background, unlike any category."""
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waves = [rng.normal(scale=0.3) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4)]
    return _radial(np.exp(np.sum(waves, axis=0)))


# One function a category, from a random generator to an outline of about unit radius around the origin.
OUTLINES = {'circle': _circle, 'rectangle': _rectangle, 'triangle': _triangle, 'star': _star, 'cross': _cross}


def _place(outline: Polygon, width: int, height: int, rng: np.random.Generator) -> Polygon:
    """Stretch, scale, rotate and move a unit outline to a random place of the image, its border included."""
    radius = 0.5 * min(width, height) * rng.uniform(*OBJECT_SIZE)
    outline = affinity.scale(outline, radius, radius * rng.uniform(0.7, 1.0), origin=(0, 0))
    outline = affinity.rotate(outline, rng.uniform(0, 360), origin=(0, 0))
    return affinity.translate(outline, rng.uniform(0, width), rng.uniform(0, height))


def _shows_its_shape(visible: BaseGeometry, outline: Polygon) -> bool:
    """Whether enough of an outline is visible, in fragments that COCO polygons can hold, without holes."""
    if not isinstance(visible, (Polygon, MultiPolygon)) or visible.area < MIN_VISIBLE * outline.area:
        return False
    fragments = getattr(visible, 'geoms', [visible])
    return all(part.area >= MIN_FRAGMENT and not part.interiors for part in fragments)


def sample_scene(width: int, height: int, max_objects: int, rng: np.random.Generator) -> Scene:
    """Draw the objects of a scene, 1 to ``max_objects`` of them, each category equally likely.

    A place is refused if through it any object would show less than 60 % of its full area, leave a fragment
    under 16 square pixels, or get a hole. So whatever is drawn is annotated, and its visible part is a set of
    plain polygons. After 50 refused places the object is left out.

    Args:
        width (int): Width of the image in pixels.
        height (int): Height of the image in pixels.
        max_objects (int): Largest number of objects.
        rng (np.random.Generator): Source of randomness.

    Returns:
        Scene: The objects and what is visible of each, cut at occluders and at the image border.
    """
    frame = box(0, 0, width, height)
    objects, visible = [], []
    for _ in range(rng.integers(1, max_objects, endpoint=True)):
        category = str(rng.choice(list(OUTLINES)))
        unit_outline = OUTLINES[category](rng)
        for _ in range(PLACEMENT_TRIALS):
            outline = _place(unit_outline, width, height, rng)
            candidates = objects + [SceneObject(category, outline)]
            still_visible = [part.difference(outline) for part in visible] + [outline.intersection(frame)]
            if all(_shows_its_shape(part, item.outline) for part, item in zip(still_visible, candidates)):
                objects, visible = candidates, still_visible
                break
    return Scene(width, height, objects, visible)


def _coverage(outline: Polygon, width: int, height: int) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Share of each pixel that an outline covers, (h, w) in [0, 1], and the window of the image it is in."""
    left, top, right, bottom = outline.bounds
    x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
    x1, y1 = min(width, math.ceil(right)), min(height, math.ceil(bottom))
    # OpenCV puts integers at pixel centres, COCO at pixel corners: hence the half.
    points = (np.asarray(outline.exterior.coords) - (x0, y0)) * SUPERSAMPLING - 0.5
    mask = np.zeros(((y1 - y0) * SUPERSAMPLING, (x1 - x0) * SUPERSAMPLING), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, shift=4)
    mask = cv2.resize(mask, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return mask.astype(np.float32) / 255, (slice(y0, y1), slice(x0, x1))


def _plain(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.zeros_like(u)


def _gradient(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (u - u.min()) / max(np.ptp(u), 1e-6)


def _stripes(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.5 + 0.5 * np.clip(4 * np.sin(2 * np.pi * u), -1, 1)


def _checker(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.5 + 0.5 * np.clip(6 * np.sin(np.pi * u) * np.sin(np.pi * v), -1, 1)


def _dots(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(3 * (np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) - 0.5), 0, 1)


def _clouds(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    waves = [np.cos(a * u + b * v + phase) for a, b, phase in rng.normal(size=(6, 3)) * (3, 3, 10)]
    return np.clip(0.5 + 0.2 * np.sum(waves, axis=0), 0, 1)


# From rotated coordinates, in periods of the pattern, to the weight of the second colour in [0, 1].
TEXTURES = (_plain, _gradient, _stripes, _checker, _dots, _clouds)


def _paint(shape: tuple[int, int], period: float, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An (h, w, 3) patch with a random texture of two colours, ``period`` pixels long, at a random angle."""
    y, x = np.mgrid[:shape[0], :shape[1]].astype(np.float32)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(0, 1)
    u = (x * math.cos(angle) + y * math.sin(angle)) / period + offset
    v = (y * math.cos(angle) - x * math.sin(angle)) / period + offset
    weight = TEXTURES[rng.integers(len(TEXTURES))](u, v, rng)[..., None]
    return (colors[0] + weight * (colors[1] - colors[0])).astype(np.float32)


def _blend(canvas: np.ndarray, patch: np.ndarray, alpha: np.ndarray) -> None:
    """Draw ``patch`` over ``canvas`` in place, both (h, w, 3), with opacity ``alpha`` (h, w)."""
    canvas += alpha[..., None] * (patch - canvas)


def _contrasting_colors(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two colours that stand out from ``canvas`` more than from each other: shape shows before texture."""
    colors = rng.uniform(0, 255, size=(2, 5, 3))
    distance = np.linalg.norm(colors - canvas.mean(axis=(0, 1)), axis=-1)
    first, second = colors[[0, 1], distance.argmax(axis=1)]
    return np.stack([first, 0.5 * (first + second)])


def _draw_background(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """An (h, w, 3) background of soft texture with blurred blobs and strokes, float32 in [0, 255]."""
    side = min(width, height)
    base = rng.uniform(40, 215, size=3)
    colors = base + rng.normal(scale=22, size=(2, 3))
    canvas = _paint((height, width), side * rng.uniform(0.1, 0.5), colors, rng)

    for _ in range(rng.integers(2, 6)):
        blob = affinity.scale(_blob(rng), *(side * rng.uniform(0.1, 0.3, size=2)), origin=(0, 0))
        blob = affinity.translate(blob, rng.uniform(0, width), rng.uniform(0, height))
        alpha = np.zeros((height, width), np.float32)
        coverage, window = _coverage(blob, width, height)
        alpha[window] = coverage * rng.uniform(0.4, 0.9)
        colors = base + rng.normal(scale=45, size=(2, 3))
        patch = _paint(alpha.shape, side * rng.uniform(0.03, 0.1), colors, rng)
        _blend(canvas, patch, cv2.GaussianBlur(alpha, (0, 0), side * rng.uniform(0.01, 0.03)))

    for _ in range(rng.integers(3, 10)):
        points = rng.uniform(0, (width, height)) + np.cumsum(rng.normal(scale=side / 10, size=(4, 2)), axis=0)
        color, thickness = rng.uniform(0, 255, size=3).tolist(), int(rng.integers(1, 4))
        cv2.polylines(
            canvas, [np.round(points * 16).astype(np.int32)], False, color, thickness, cv2.LINE_AA, shift=4)
    return canvas


def render(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Args:
        scene (Scene): What to draw.
        rng (np.random.Generator): Source of colours, textures and background.

    Returns:
        tuple[np.ndarray, np.ndarray]: The image, (h, w, 3) uint8 in BGR order, and the owner of each pixel,
        (h, w): 0 for the background, i + 1 for object i.
    """
    side = min(scene.width, scene.height)
    canvas = _draw_background(scene.width, scene.height, rng)
    owner = np.zeros(canvas.shape[:2], np.int32)
    for number, item in enumerate(scene.objects, 1):
        alpha, window = _coverage(item.outline, scene.width, scene.height)
        colors = _contrasting_colors(canvas[window], rng)
        patch = _paint(alpha.shape, side * rng.uniform(0.03, 0.1), colors, rng)
        _blend(canvas[window], patch, alpha)
        owner[window][alpha >= 0.5] = number
    canvas += rng.normal(scale=rng.uniform(1, 7), size=canvas.shape)
    return np.clip(canvas, 0, 255).round().astype(np.uint8), owner
