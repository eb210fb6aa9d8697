"""Furnished rooms: the furniture's catalogues and meshes, and rooms built of them.

A part of the recipe `rooms.py`. Invariant: a room is determined by the two generators that it is given.
"""

import colorsys
import dataclasses
import math
import pathlib
import re
import zipfile

import numpy as np
import trimesh
from PIL import Image
from trimesh.ray.ray_pyembree import RayMeshIntersector

CLASSES = {
    "bed": r"\bbed|crib|cot\b",
    "sofa": r"sofa|couch|bench",
    "chair": r"chair|stool|seat|ottoman|pouf",
    "table": r"table|desk|counter|worktop|bar\b",
    "lamp": r"lamp|light|chandelier|candle|sconce|spot",
    "plant": r"plant|flower|tree|palm|cactus|bonsai|orchid",
    "bath": r"toilet|wc|sink|bath|shower|bidet|washbasin|tub|basin|faucet|tap",
    "appliance": r"fridge|refriger|oven|stove|cooker|hob|wash|dish|micro|tv|televis|computer|laptop|monitor|screen"
    r"|hi-?fi|stereo|speaker|phone|printer|console|toaster|coffee|mixer|kettle|radiator|fan",
    "opening": r"door|window|blind|curtain|shutter",
    "cabinet": r"cabinet|shel|wardrobe|dresser|drawer|bookcase|cupboard|chest|closet|commode|buffet|rack|furniture"
    r"|sideboard",
    "person": r"man\b|woman|boy|girl|child|person|people",
    "picture": r"picture|frame|painting|mirror|poster|clock",
    "decor": r"vase|book|bottle|cup|glass|plate|bowl|pan|pot|rug|carpet|cushion|pillow|toy|ball|box|basket|towel|tray"
    r"|fruit|statue|guitar|piano",
}
LABELS = (
    *("void", "wall", "floor", "ceiling", "bed", "chair", "sofa", "table", "cabinet", "lamp", "plant", "bath"),
    *("appliance", "opening", "person", "picture", "decor", "other"),
)
ROOMS = {
    "bedroom": "Bedroom",
    "kitchen": "Kitchen",
    "living": "Living room",
    "bathroom": "Bathroom",
    "office": "Office",
}
OUTDOORS = ("Exterior", "Vehicles", "Staircases")



# Furniture ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Furniture:
    """An entry of a catalogue. `size` is width, height, depth in metres."""

    file: pathlib.Path
    name: str
    category: str
    size: tuple
    rotation: str | None
    elevation: float
    is_opening: bool
    label: int


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Triangles with textures: `material` numbers each face's entry in `surfaces`, a colour and an image or none."""

    vertices: np.ndarray
    faces: np.ndarray
    texture: np.ndarray
    material: np.ndarray
    surfaces: list
    normals: np.ndarray


def label_of(name):
    """The class of the first pattern that a name matches."""
    for label, pattern in CLASSES.items():
        if re.search(pattern, name.lower()):
            return LABELS.index(label)
    return LABELS.index("other")


def unpack_libraries(folder, target):
    """Unpacks every furniture library (`.sh3f`, a zip file) below the folder."""
    for library in sorted(folder.rglob("*.sh3f")):
        with zipfile.ZipFile(library) as archive:
            archive.extractall(target / library.stem)


def read_catalogues(folder):
    """All indoor furniture of the unpacked libraries, in a fixed order."""
    items = []
    for catalogue in sorted(folder.glob("*/PluginFurnitureCatalog.properties")):
        entries = {}
        for line in catalogue.read_text(encoding="latin-1").splitlines():
            if match := re.match(r"^(\w+)#(\d+)\s*=(.*)$", line.strip()):
                entries.setdefault(int(match[2]), {})[match[1]] = match[3].strip()
        for entry in entries.values():
            file = catalogue.parent / entry.get("model", "").lstrip("/")
            if file.suffix.lower() != ".obj" or not file.is_file() or entry.get("category") in OUTDOORS:
                continue
            try:
                size = tuple(float(entry[side]) / 100 for side in ("width", "height", "depth"))
            except (KeyError, ValueError):
                continue
            name = entry.get("name", "")
            elevation = float(entry.get("elevation", 0) or 0) / 100
            opens = entry.get("doorOrWindow") == "true"
            rotation = entry.get("modelRotation")
            items.append(Furniture(file, name, entry["category"], size, rotation, elevation, opens, label_of(name)))
    return items


def material_of(visual, n_vertices):
    """Colour, image or none, and texture coordinates of a part."""
    coordinates, material = getattr(visual, "uv", None), getattr(visual, "material", None)
    colour, image = np.full(3, 0.6), None
    if material is not None:
        picture = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
        diffuse = getattr(material, "diffuse", None)
        if diffuse is not None:
            colour = np.asarray(diffuse[:3], float) / 255
        if picture is not None and coordinates is not None and len(coordinates) == n_vertices:
            picture = picture.convert("RGB")
            picture.thumbnail((256, 256))
            image = np.asarray(picture, dtype=np.float32) / 255
    texture = np.zeros((n_vertices, 2)) if image is None else np.asarray(coordinates, float)
    return colour, image, texture


def read_mesh(item):
    """The furniture's mesh at its size, standing on the origin; `None` where it is too large or has nothing."""
    if item.file.stat().st_size >= 9e6:
        return None
    scene = trimesh.load(item.file, process=False)
    parts = scene.dump(concatenate=False) if isinstance(scene, trimesh.Scene) else [scene]
    parts = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not parts or sum(len(part.vertices) for part in parts) >= 120_000:
        return None
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    materials = [material_of(part.visual, len(part.vertices)) for part in parts]
    vertices = np.concatenate([part.vertices for part in parts])
    normals = np.concatenate([part.vertex_normals for part in parts])
    if item.rotation:
        rotation = np.array([float(x) for x in item.rotation.split()]).reshape(3, 3)
        vertices, normals = vertices @ rotation.T, normals @ rotation.T
    low, high = vertices.min(0), vertices.max(0)
    scale = np.array(item.size) / np.maximum(high - low, 1e-6)
    foot = (low + high) / 2 * [1, 0, 1] + [0, low[1], 0]
    normals = normals / scale
    return Mesh(
        vertices=(vertices - foot) * scale,
        faces=np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)]),
        texture=np.concatenate([texture for _, _, texture in materials]),
        material=np.concatenate([np.full(len(part.faces), number) for number, part in enumerate(parts)]),
        surfaces=[(colour, image) for colour, image, _ in materials],
        normals=normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9),
    )


class Shop:
    """The furniture and its meshes, each read once."""

    def __init__(self, folder):
        self.items, self.meshes = read_catalogues(folder), {}

    def mesh(self, item):
        """`None` where the file cannot be read: some of the libraries' files are damaged."""
        if item.file not in self.meshes:
            try:
                self.meshes[item.file] = read_mesh(item)
            except Exception:  # noqa: BLE001  trimesh raises what its parsers raise
                self.meshes[item.file] = None
        return self.meshes[item.file]


# Rooms --------------------------------------------------------------------------------------------------------------


def draw_texture(numbers, kind):
    """A square texture of 256 pixels, 0..1, tinted at random."""
    n = 256
    y, x = np.mgrid[0:n, 0:n] / n
    hue, saturation, value = numbers.random(), numbers.random() * 0.45, 0.45 + 0.5 * numbers.random()
    base = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    coarse = Image.fromarray((numbers.random((16, 16)) * 255).astype(np.uint8))
    clouds = np.asarray(coarse.resize((n, n), Image.Resampling.BICUBIC), float) / 255 - 0.5
    fine = numbers.random((n, n)) - 0.5
    if kind == "wood":
        base = np.array([0.45, 0.3, 0.17]) * (0.6 + numbers.random())
        plank = np.floor(y * 8)
        grain = 0.036 * np.sin(40 * x + 6 * clouds + 9 * plank)
        shade = grain + 0.15 * (((plank * 7919) % 5) / 5 - 0.4) + 0.06 * fine
        shade[(y * 8) % 1 < 0.03] -= 0.25
        shade = 1 + shade
    elif kind == "tile":
        shade = 1 + 0.06 * clouds + 0.02 * fine
        shade[((x * 6) % 1 < 0.05) | ((y * 6) % 1 < 0.05)] *= 0.7
    elif kind == "stripe":
        shade = 1 + 0.12 * np.sign(np.sin(2 * np.pi * x * numbers.integers(6, 16))) + 0.02 * fine
    elif kind == "brick":
        shifted = (x * 6 + 0.5 * (np.floor(y * 16) % 2)) % 1
        shade = 1 + 0.15 * clouds + 0.05 * fine
        shade[(shifted < 0.05) | ((y * 16) % 1 < 0.1)] *= 1.35
    elif kind == "carpet":
        shade = 1 + 0.25 * fine + 0.15 * clouds
    else:
        shade = 1 + 0.05 * clouds + 0.015 * fine
    return np.clip(base * shade[..., None], 0, 1).astype(np.float32)


def rectangle(corner, u, v, image, metres):
    """A rectangle in 288 triangles; the image repeats every so many metres."""
    n = 12
    steps = np.linspace(0, 1, n + 1)
    a, b = (grid.reshape(-1, 1) for grid in np.meshgrid(steps, steps, indexing="ij"))
    i = np.arange(n * (n + 1)).reshape(n, n + 1)[:, :n].ravel()
    faces = np.concatenate([np.stack([i, i + n + 1, i + 1], 1), np.stack([i + 1, i + n + 1, i + n + 2], 1)])
    normal = np.cross(u, v)
    return Mesh(
        vertices=corner + a * u + b * v,
        faces=faces,
        texture=np.concatenate([a * np.linalg.norm(u), b * np.linalg.norm(v)], 1) / metres,
        material=np.zeros(len(faces), int),
        surfaces=[(np.ones(3), image)],
        normals=np.tile(normal / np.linalg.norm(normal), ((n + 1) ** 2, 1)),
    )


class Room:
    """A furnished room, its origin in the middle of the floor."""

    def __init__(self, shop, numbers, choices):
        self.shop, self.numbers, self.choices, self.parts = shop, numbers, choices, []
        self.kind = choices.choice(list(ROOMS))
        self.width, self.depth = numbers.uniform(3, 5.5), numbers.uniform(3, 5.5)
        self.height = numbers.uniform(2.4, 2.9)
        # Footprints on the floor, (x, z, extent in x, extent in z), and what can carry small things.
        self.footprints, self.tops = [], []
        self.build_shell()
        self.place_openings()
        self.place_furniture()
        self.place_small_things()
        self.join()

    def build_shell(self):
        wet, paint = self.kind in ("kitchen", "bathroom"), "paint"
        walls = self.choices.choice([paint, paint, "stripe", "brick", "tile" if wet else paint])
        wall = draw_texture(self.numbers, walls)
        floor = draw_texture(self.numbers, self.choices.choice(["tile"] if wet else ["wood", "wood", "carpet", "tile"]))
        ceiling = draw_texture(self.numbers, paint) * 0.3 + 0.65
        x, y, z = np.diag([self.width, self.height, self.depth])
        corner = np.array([-self.width / 2, 0, -self.depth / 2])
        for start, u, v, image, label in (
            (corner, z, x, floor, "floor"),
            (corner + y, x, z, ceiling, "ceiling"),
            (corner, x, y, wall, "wall"),
            (corner + z, y, x, wall, "wall"),
            (corner, y, z, wall, "wall"),
            (corner + x, z, y, wall, "wall"),
        ):
            self.parts.append((rectangle(start, u, v, image, 1.2), LABELS.index(label)))

    def put(self, item, x, y, z, angle):
        """Stands furniture in the room, turned about the vertical; false where it has no mesh."""
        mesh = self.shop.mesh(item)
        if mesh is None:
            return False
        c, s = math.cos(angle), math.sin(angle)
        rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        vertices = mesh.vertices @ rotation.T + [x, y, z]
        turned = dataclasses.replace(mesh, vertices=vertices, normals=mesh.normals @ rotation.T)
        self.parts.append((turned, item.label))
        return True

    def place_openings(self):
        """One or two doors or windows."""
        openings = [item for item in self.shop.items if item.is_opening]
        for _ in range(self.choices.randint(1, 2)):
            item = self.choices.choice(openings)
            wall = self.choices.randint(0, 3)
            length = self.width if wall < 2 else self.depth
            along = self.numbers.uniform(-length / 2 + 0.6, length / 2 - 0.6)
            x, z = [
                (along, -self.depth / 2 + 0.02),
                (along, self.depth / 2 - 0.02),
                (-self.width / 2 + 0.02, along),
                (self.width / 2 - 0.02, along),
            ][wall]
            lift = min(item.elevation, max(0, self.height - item.size[1] - 0.05))
            self.put(item, x, lift, z, [0, math.pi, math.pi / 2, -math.pi / 2][wall])

    def place_furniture(self):
        """Six to eleven pieces, most of the room's kind, along the walls or free, none in another."""
        of_the_room, anywhere, people = [], [], []
        for item in self.shop.items:
            if item.category == ROOMS[self.kind] and not item.is_opening:
                of_the_room.append(item)
            if item.category in ("Lights", "Miscellaneous") and not item.is_opening:
                anywhere.append(item)
            if item.category == "Characters":
                people.append(item)
        large = [item for item in of_the_room + anywhere if max(item.size) > 0.45 and self.has_room_for(item)]
        wanted, tries, draw = self.choices.randint(6, 11), 0, self.choices
        while wanted and tries < 60:
            tries += 1
            if people and draw.random() < 0.06:
                item = draw.choice(people)
            elif of_the_room and draw.random() < 0.75:
                item = draw.choice(of_the_room)
            else:
                item = draw.choice(large)
            wanted -= self.place(item)

    def has_room_for(self, item):
        width, height, depth = item.size
        return width < 2.6 and depth < 2.4 and height < self.height - 0.1

    def place(self, item):
        """Whether a piece found a place."""
        width, height, depth = item.size
        if max(width, depth) < 0.3 or height > self.height - 0.05 or width > 2.8:
            return False
        side = self.choices.randint(0, 4)
        angle = [0, math.pi, math.pi / 2, -math.pi / 2, self.numbers.uniform(-3, 3)][side]
        along_x, along_z = [(width, depth), (depth, width), (max(width, depth),) * 2][min(side // 2, 2)]
        if along_x > self.width - 0.2 or along_z > self.depth - 0.2:
            return False
        free_x, free_z = self.width / 2 - along_x / 2, self.depth / 2 - along_z / 2
        x, z = self.numbers.uniform(-free_x, free_x), self.numbers.uniform(-free_z, free_z)
        if side < 2:
            z = (0.02 - free_z) * (1 if side == 0 else -1)
        elif side < 4:
            x = (0.02 - free_x) * (1 if side == 2 else -1)
        y = min(item.elevation, self.height - height - 0.02) if item.elevation > 0 else 0
        stands = y < 0.3
        overlaps = (
            abs(x - a) < (along_x + c) / 2 and abs(z - b) < (along_z + d) / 2 for a, b, c, d in self.footprints
        )
        if (stands and any(overlaps)) or not self.put(item, x, y, z, angle):
            return False
        if stands:
            self.footprints.append((x, z, along_x, along_z))
        if 0.35 < height < 1.2 and LABELS[item.label] in ("table", "cabinet"):
            self.tops.append((x, z, along_x, along_z, height))
        return True

    def place_small_things(self):
        """Up to three on each table and low cabinet."""
        categories = [ROOMS[self.kind], "Miscellaneous", "Lights", "Kitchen"]
        small = [item for item in self.shop.items if max(item.size) <= 0.45 and item.category in categories]
        for x, z, along_x, along_z, height in self.tops:
            for _ in range(self.choices.randint(0, 3)):
                item = self.choices.choice(small)
                right, forward = self.numbers.uniform(-0.35, 0.35), self.numbers.uniform(-0.35, 0.35)
                angle = self.numbers.uniform(-3, 3)
                self.put(item, x + right * along_x, height, z + forward * along_z, angle)

    def join(self):
        """One mesh of all parts, with each face's label, and what finds where rays meet it."""
        meshes = [mesh for mesh, _ in self.parts]
        starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
        materials = np.cumsum([0, *(len(mesh.surfaces) for mesh in meshes)])
        self.mesh = Mesh(
            vertices=np.concatenate([mesh.vertices for mesh in meshes]),
            faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
            texture=np.concatenate([mesh.texture for mesh in meshes]),
            material=np.concatenate([mesh.material + first for mesh, first in zip(meshes, materials, strict=False)]),
            surfaces=[surface for mesh in meshes for surface in mesh.surfaces],
            normals=np.concatenate([mesh.normals for mesh in meshes]),
        )
        self.label = np.concatenate([np.full(len(mesh.faces), label) for mesh, label in self.parts])
        self.rays = RayMeshIntersector(trimesh.Trimesh(self.mesh.vertices, self.mesh.faces, process=False))
