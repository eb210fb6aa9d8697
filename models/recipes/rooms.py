"""Makes the images of the experiment on tasks: ray-traced views of furnished rooms, with exact labels for every task.

A room is a box with textured walls, in which furniture of a kind of room stands along the walls and about; small
things stand on tables. Some views are taken of each. Labels of surfaces come from the geometry, so they are exact;
edges, keypoints and segments of the picture come from the picture. All that is random comes from the room's number.

The furniture is that of the Debian package sweethome3d-furniture (CC0 and CC-BY, by the authors it names):

    apt-get download sweethome3d-furniture && dpkg -x sweethome3d-furniture_*.deb furniture
    pip install trimesh embreex scikit-image pillow
    python models/recipes/rooms.py --furniture furniture --output train.npz --views 1600 --seed 0
    python models/recipes/rooms.py --furniture furniture --output test.npz --views 800 --seed 1000000
"""

import argparse
import logging
import math
import pathlib
import random
import tempfile

import numpy as np
from rooms_furnished import LABELS, ROOMS, Room, Shop, unpack_libraries
from skimage import color, feature, filters, segmentation

VIEWS_OF_A_ROOM = 3
SUPERSAMPLING = 2
LARGEST_CURVATURE = 20.0
# The first labels are void, wall, floor and ceiling; a view's object is of another.
FIRST_OBJECT = 4
# How labels are stored: the physical value is the stored integer over the scale, which stands beside it.
STORED = {
    "depth_euclidean": (np.uint16, 1000.0),
    "depth_zbuffer": (np.uint16, 1000.0),
    "normal": (np.int8, 127.0),
    "reshading": (np.uint8, 255.0),
    "curvature": (np.int8, 127.0 / LARGEST_CURVATURE),
    "edge_texture": (np.uint8, 255.0 / 0.7),
    "edge_occlusion": (np.uint8, 255.0),
    "keypoints2d": (np.uint8, 255.0 / 0.016),
    "keypoints3d": (np.uint8, 255.0 / 1.2),
}


# Rays ---------------------------------------------------------------------------------------------------------------


def along(rows, others):
    """Scalar products, row by row."""
    return (rows * others).sum(1)


def unit(rows):
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)


def distances(corners, origins, directions):
    """How far along each ray its triangle's plane lies, and the second and third barycentric coordinates there."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(directions, second)
    volume = along(first, across)
    volume = np.where(np.abs(volume) < 1e-12, 1e-12, volume)
    offset = origins - corners[:, 0]
    other = np.cross(offset, first)
    return along(second, other) / volume, along(offset, across) / volume, along(directions, other) / volume


def trace(room, origins, directions):
    """What rays meet first: arrays of one row a ray. `facet` is the triangle's normal, `normal` the smooth one, both
    towards the eye; a ray that meets nothing has label 0 and distance 0."""
    mesh, triangle = room.mesh, room.rays.intersects_first(origins, directions)
    hit = triangle >= 0
    faces = mesh.faces[triangle]
    corners = mesh.vertices[faces]
    distance, u, v = distances(corners, origins, directions)
    u, v = np.clip(u, 0, 1), np.clip(v, 0, 1)
    weights = np.stack([np.clip(1 - u - v, 0, 1), u, v], 1)[..., None]
    facet = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    facet *= -np.sign(along(facet, directions))[:, None]
    normal = (mesh.normals[faces] * weights).sum(1)
    normal = unit(normal * np.sign(along(normal, facet))[:, None])
    # A smooth normal that turns away from the eye is the mesh's fault.
    away = along(normal, directions) > -0.02
    normal[away] = facet[away]
    return {
        "hit": hit,
        "distance": np.where(hit, distance, 0),
        "point": origins + directions * distance[:, None],
        "normal": normal,
        "facet": facet,
        "albedo": albedo(mesh, mesh.material[triangle], (mesh.texture[faces] * weights).sum(1), hit),
        "label": np.where(hit, room.label[triangle], 0),
    }


def albedo(mesh, materials, texture, hit):
    """Colour of the surfaces, 0..1."""
    colours = np.zeros((len(materials), 3))
    for number in np.unique(materials[hit]):
        rows = np.flatnonzero(hit & (materials == number))
        colour, image = mesh.surfaces[number]
        if image is None:
            colours[rows] = colour
        else:
            height, width = image.shape[:2]
            right, up = texture[rows, 0] % 1, (1 - texture[rows, 1]) % 1
            colours[rows] = image[(up * height).astype(int) % height, (right * width).astype(int) % width]
    return colours


def shade(room, met, numbers, n_ambient=6):
    """Light from two soft lamps below the ceiling, with shadows, and from all sides where nothing is near."""
    n, points = len(met["distance"]), met["point"] + met["facet"] * 2e-3
    light = np.zeros((n, 3))
    warmth = np.array([1, 0.93 + 0.07 * numbers.random(), 0.8 + 0.2 * numbers.random()])
    for _ in range(2):
        right = numbers.uniform(-room.width / 3, room.width / 3)
        forward = numbers.uniform(-room.depth / 3, room.depth / 3)
        to_lamp = np.array([right, room.height - 0.15, forward]) - points + numbers.normal(0, 0.08, (n, 3))
        far = np.linalg.norm(to_lamp, axis=1)
        to_lamp /= far[:, None]
        triangle = room.rays.intersects_first(points, to_lamp)
        between, _, _ = distances(room.mesh.vertices[room.mesh.faces[triangle]], points, to_lamp)
        visible = (triangle < 0) | (between > far - 0.05)
        strength = visible * np.clip(along(to_lamp, met["normal"]), 0, None) / (0.6 + far**2)
        light += strength[:, None] * warmth * numbers.uniform(1.4, 2.4)
    openness = np.zeros(n)
    for _ in range(n_ambient):
        ball = numbers.normal(size=(n, 3))
        ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        triangle = room.rays.intersects_first(points, unit(met["normal"] + ball * 0.98))
        middles = room.mesh.vertices[room.mesh.faces[triangle]].mean(1)
        openness += np.clip(np.linalg.norm(middles - points, axis=1) / 1.2, 0, 1)
    light += (0.42 * openness / n_ambient)[:, None]
    return np.where(met["hit"][:, None], met["albedo"] * light, 0)


# Views --------------------------------------------------------------------------------------------------------------


class Camera:
    """Stands in the room at the height of eyes and looks across its middle."""

    def __init__(self, room, numbers):
        opening = math.radians(numbers.uniform(50, 75))
        eye_x = numbers.uniform(-0.42, 0.42) * room.width
        eye_y, eye_z = numbers.uniform(1.0, 1.7), numbers.uniform(-0.42, 0.42) * room.depth
        self.eye = np.array([eye_x, eye_y, eye_z])
        across_x, height = -eye_x * numbers.uniform(0.3, 1), numbers.uniform(0.3, 1.1)
        target = np.array([across_x, height, -eye_z * numbers.uniform(0.3, 1)])
        self.forward = target - self.eye
        self.forward /= np.linalg.norm(self.forward)
        self.right = np.cross(self.forward, [0, 1, 0])
        self.right /= np.linalg.norm(self.right)
        self.up = np.cross(self.right, self.forward)
        self.focal = 1 / math.tan(opening / 2)

    def rays(self, size):
        """Origins, directions, and each ray's share along the camera's axis, row by row of the picture."""
        steps = (np.arange(size) + 0.5) / size * 2 - 1
        x, y = np.meshgrid(steps, -steps)
        rays = self.forward * self.focal + x[..., None] * self.right + y[..., None] * self.up
        length = np.linalg.norm(rays, axis=-1, keepdims=True)
        return np.tile(self.eye, (size * size, 1)), (rays / length).reshape(-1, 3), self.focal / length[..., 0]


def gradients(image):
    """Differences along the rows, then along the columns, of the picture."""
    return np.gradient(image, axis=1), np.gradient(image, axis=0)


def principal_curvatures(points, normals):
    """Of the shape operator by differences between neighbouring pixels, smaller one first, 1/m."""
    (px, py), (nx, ny) = gradients(points), gradients(normals)
    e, f, g = (px * px).sum(-1), (px * py).sum(-1), (py * py).sum(-1)
    l, m, n = (nx * px).sum(-1), ((nx * py).sum(-1) + (ny * px).sum(-1)) / 2, (ny * py).sum(-1)  # noqa: E741
    area = e * g - f * f + 1e-12
    gaussian, mean = (l * n - m * m) / area, (e * n - 2 * f * m + g * l) / (2 * area)
    spread = np.sqrt(np.clip(mean * mean - gaussian, 0, None))
    return np.clip(np.stack([mean - spread, mean + spread], -1), -LARGEST_CURVATURE, LARGEST_CURVATURE)


def surface_labels(camera, met, directions, depth_share, size):
    """Labels that come from the geometry."""
    distance = met["distance"].reshape(size, size)
    depth = distance * depth_share
    points, normals = met["point"].reshape(size, size, 3), met["normal"].reshape(size, size, 3)
    bend = sum(np.abs(np.gradient(np.gradient(depth, axis=axis), axis=axis)) for axis in (0, 1))
    occlusion = np.clip(bend / (depth + 1e-3) * 8, 0, 1)
    curvature = principal_curvatures(points, normals)
    # Differences across an edge are not curvature.
    curvature[occlusion > 0.25] = 0
    nx, ny = gradients(normals)
    products = ((nx * nx).sum(-1), (nx * ny).sum(-1), (ny * ny).sum(-1))
    xx, xy, yy = (filters.gaussian(product, 2) for product in products)
    return {
        "depth_euclidean": distance,
        "depth_zbuffer": depth,
        "normal": met["normal"].reshape(size, size, 3) @ np.stack([camera.right, camera.up, -camera.forward]).T,
        "reshading": np.clip(-along(met["normal"], directions), 0, 1).reshape(size, size),
        "curvature": curvature,
        "edge_occlusion": occlusion,
        "keypoints3d": np.clip(xx * yy - xy**2 - 0.04 * (xx + yy) ** 2, 0, None),
    }


def picture_labels(picture, depth, normals):
    """Labels that come from the picture, and the segments of picture and geometry together."""
    grey = color.rgb2gray(picture)
    smooth = filters.gaussian(grey, 1)
    keypoints = feature.hessian_matrix_det(filters.gaussian(grey, 0.7, mode="nearest"), sigma=2.5)
    border = np.ones_like(grey, bool)
    border[4:-4, 4:-4] = False
    keypoints[border] = 0
    stacked = np.dstack([grey, depth / depth.max(), normals * 0.5 + 0.5])
    choice = {"scale": 120, "sigma": 0.7, "min_size": 30}
    return {
        "edge_texture": np.hypot(filters.sobel_h(smooth), filters.sobel_v(smooth)),
        "keypoints2d": np.clip(keypoints, 0, None),
        "segment_unsup2d": segmentation.felzenszwalb(picture, **choice),
        "segment_unsup25d": segmentation.felzenszwalb(stacked, **choice, channel_axis=-1),
    }


def view(room, camera, number, size):
    """A picture and its labels; `None` where it shows little furniture or stands before something."""
    origins, directions, depth_share = camera.rays(size)
    met = trace(room, origins, directions)
    if (met["label"] >= FIRST_OBJECT).mean() < 0.12 or np.percentile(met["distance"], 5) < 0.25:
        return None
    fine = SUPERSAMPLING
    origins, fine_directions, _ = camera.rays(size * fine)
    light = shade(room, trace(room, origins, fine_directions), np.random.default_rng(number))
    light = light.reshape(size, fine, size, fine, 3).mean((1, 3))
    light = light / (np.percentile(light, 97) + 1e-6) * 0.9
    picture = (np.clip(light, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
    surface = surface_labels(camera, met, directions, depth_share, size)
    counts = np.bincount(met["label"], minlength=len(LABELS))
    counts[:FIRST_OBJECT] = 0
    return {
        "rgb": picture,
        **surface,
        **picture_labels(picture, surface["depth_zbuffer"], surface["normal"]),
        "segment_semantic": met["label"].reshape(size, size),
        "class_object": counts.argmax(),
        "class_scene": list(ROOMS).index(room.kind),
    }


def views_of(shop, number, size):
    """Up to three views of the room of this number."""
    numbers, choices = np.random.default_rng(number), random.Random(number)
    room, views = Room(shop, numbers, choices), []
    for _ in range(4 * VIEWS_OF_A_ROOM):
        if len(views) < VIEWS_OF_A_ROOM:
            seen = view(room, Camera(room, numbers), number, size)
            views += [seen] if seen else []
    return views


def packed(views):
    """Arrays of all views, as small integers, with their scales."""
    arrays = {}
    for name in views[0]:
        values = np.stack([view[name] for view in views])
        if name in STORED:
            dtype, scale = STORED[name]
            limits = np.iinfo(dtype)
            arrays[name] = np.clip(np.rint(values * scale), limits.min, limits.max).astype(dtype)
            arrays[f"scale/{name}"] = np.float32(scale)
        else:
            arrays[name] = values.astype(np.uint8 if values.max() < 256 else np.uint16)
    return arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--furniture", type=pathlib.Path, required=True, help="folder with .sh3f files below it")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--views", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0, help="number of the first room")
    parser.add_argument("--size", type=int, default=64)
    chosen = parser.parse_args()
    # trimesh tells of every damaged material.
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        unpack_libraries(chosen.furniture, pathlib.Path(folder))
        shop, views, number = Shop(pathlib.Path(folder)), [], chosen.seed
        while len(views) < chosen.views:
            views += views_of(shop, number, chosen.size)
            number += 1
            print(f"\r{len(views)} views of {number - chosen.seed} rooms", end="", flush=True)
    print()
    np.savez_compressed(chosen.output, **packed(views[: chosen.views]))


if __name__ == "__main__":
    main()
