"""Trains fifteen networks for fifteen tasks on the same images: which tasks are near to each other?

Liang et al. (ICML 2021), section 4.3, on ray-traced rooms with exact labels (`rooms.py`) instead of Taskonomy. All
networks have the same encoder, from a 64×64 image to 2,048 numbers without a way around them, and a decoder for their
task. Training and test views are of different rooms.

    python models/recipes/tasks.py
    python models/recipes/tasks.py --write-probe models/experiments/tasks/datasets/rooms/data.npz
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
import zoo
from torch import nn
from torch.nn import functional

SIZE = 64
CODE = (32, 8, 8)
DATA = "rooms: 1,600 ray-traced views with exact labels, made of furniture of the Debian package sweethome3d-furniture"
LICENCE = "furniture CC0 and CC-BY, by its authors named in that package"
MEASURED_ON = "800 views of other rooms"
SCHEDULE = zoo.Schedule(epochs=30, batch=32, weight_decay=0.1)
# Labels of `class_object` start behind void, wall, floor and ceiling.
FIRST_OBJECT = 4
SEMANTIC = (
    *("void", "wall", "floor", "ceiling", "bed", "chair", "sofa", "table", "cabinet", "lamp", "plant", "bath"),
    *("appliance", "opening", "person", "picture", "decor", "other"),
)
ROOMS = ("bedroom", "kitchen", "living", "bathroom", "office")
# A probe set has every second test view, and maps at a quarter of the height and width: what transfer is measured on.
PROBE_STEP = 2
MAP_SHRINK = 4
# Bits of a map's numbers in the probe set that are dropped, of the ten that float16 has behind its point.
DROPPED_BITS = 4
# Two places are told to be in one segment or not at these distances to the right and downwards.
DISTANCES = (2, 8)


# Networks -----------------------------------------------------------------------------------------------------------


def encoder():
    return nn.Sequential(
        zoo.convolution(3, 32, 2, 5),
        zoo.Residual(32, 64, 2),
        zoo.Residual(64, 96, 2),
        nn.Conv2d(96, CODE[0], 1),
        nn.Flatten(),
    )


def dense_decoder(n_channels):
    """From the code to a map of the image's size, the last doubling by moving channels to places."""
    return nn.Sequential(
        nn.Unflatten(1, CODE),
        zoo.convolution(CODE[0], 64),
        nn.Upsample(scale_factor=2),
        zoo.convolution(64, 48),
        nn.Upsample(scale_factor=2),
        zoo.convolution(48, 32),
        nn.Conv2d(32, 4 * n_channels, 3, padding=1),
        nn.PixelShuffle(2),
    )


def class_decoder(n_classes):
    return nn.Sequential(nn.Unflatten(1, CODE), nn.ReLU(), zoo.convolution(CODE[0], 64, 2), zoo.pooled(64, n_classes))


class EncoderDecoder(nn.Module):
    """Gives the output and the code, which is the features of the file."""

    def __init__(self, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder

    def forward(self, image):
        code = self.encoder(image)
        return self.decoder(code), code


# Tasks --------------------------------------------------------------------------------------------------------------


def mean_squared(outputs, targets):
    return functional.mse_loss(outputs[0], targets)


def smooth_absolute(outputs, targets):
    return functional.smooth_l1_loss(outputs[0], targets)


def binary(outputs, targets):
    return functional.binary_cross_entropy_with_logits(outputs[0], targets)


def cross_entropy(outputs, targets):
    return functional.cross_entropy(outputs[0], targets)


def explained(outputs, targets):
    """R² over all places, each channel against its mean."""
    residual = ((outputs - targets) ** 2).sum((0, 2, 3), dtype=np.float64)
    spread = ((targets - targets.mean((0, 2, 3), keepdims=True)) ** 2).sum((0, 2, 3), dtype=np.float64)
    return {"r2": (1 - residual / spread).mean()}


def angles(outputs, targets):
    """R², and the mean angle between the normals, in degrees."""
    unit = outputs / np.maximum(np.linalg.norm(outputs, axis=1, keepdims=True), 1e-6)
    cosine = np.clip((unit * targets).sum(1), -1, 1)
    return {**explained(outputs, targets), "mean_angle": np.degrees(np.arccos(cosine)).mean()}


def balanced(outputs, targets):
    """Mean of the accuracies on pairs of one segment and on pairs of two."""
    right = (outputs > 0) == (targets > 0.5)
    return {"balanced_accuracy": (right[targets > 0.5].mean() + right[targets < 0.5].mean()) / 2}


def pixel_classes(outputs, targets):
    """Accuracy over places and mean intersection over union of the classes that occur."""
    given = outputs.argmax(1)
    shares = []
    for label in np.unique(targets):
        both, either = (given == label) & (targets == label), (given == label) | (targets == label)
        shares.append(both.sum() / either.sum())
    return {"accuracy": (given == targets).mean(), "mean_iou": np.mean(shares)}


def image_classes(outputs, targets):
    return {"accuracy": (outputs.argmax(1) == targets).mean()}


@dataclasses.dataclass(frozen=True)
class Task:
    """`target` makes what is predicted from a batch of the labels as stored, mirrored or not."""

    group: str
    stored: str
    n_outputs: int
    target: Callable
    loss: Callable
    measure: Callable
    told: str
    colour: float = 0.2
    classes: tuple = ()


def channels_first(values):
    return values[:, None] if values.ndim == 3 else values.permute(0, 3, 1, 2)


def scaled(offset, width):
    """Physical values, less an offset, in units of a width."""
    return lambda values: (channels_first(values) - offset) / width


def rooted(largest):
    """Square root of values 0..largest, so that the few high ones do not outweigh the rest."""
    return lambda values: 2 * (channels_first(values) / largest).clamp(0, 1).sqrt()


def compressed(values):
    """Curvatures of both signs on a logarithmic scale."""
    values = channels_first(values)
    return values.sign() * values.abs().log1p()


def togetherness(segments):
    """1 where a place and the one at each distance to the right, then downwards, lie in one segment."""
    maps = []
    for distance in DISTANCES:
        last = torch.arange(SIZE).add(distance).clamp(max=SIZE - 1)
        maps += [segments == segments[:, :, last], segments == segments[:, last]]
    return torch.stack(maps, 1).float()


def labels(first=0):
    return lambda values: values.long() - first


def regression(group, stored, target, told, n_outputs=1, loss=mean_squared, measure=explained, colour=0.2):
    return Task(group, stored, n_outputs, target, loss, measure, told, colour)


TASKS = {
    "autoencoding": regression("2d", "rgb", scaled(0.5, 0.25), "the image itself", 3, colour=0),
    "edges-2d": regression("2d", "edge_texture", rooted(0.7), "strength of edges of the picture", colour=0),
    "keypoints-2d": regression("2d", "keypoints2d", rooted(0.016), "strength of keypoints of the picture", colour=0),
    "segmentation-2d": Task(
        *("2d", "segment_unsup2d", 4, togetherness, binary, balanced),
        *("whether two places lie in one segment of the picture", 0.0),
    ),
    "curvature": regression("3d", "curvature", compressed, "principal curvatures", 2, smooth_absolute),
    "edges-3d": regression("3d", "edge_occlusion", scaled(0.0, 0.25), "strength of occlusion edges"),
    "keypoints-3d": regression("3d", "keypoints3d", rooted(1.2), "strength of keypoints of the surfaces"),
    "segmentation-25d": Task(
        *("3d", "segment_unsup25d", 4, togetherness, binary, balanced),
        "whether two places lie in one segment of picture, depth and normals",
    ),
    "reshading": regression("3d", "reshading", scaled(0.5, 0.25), "shading by a lamp at the camera"),
    "depth": regression("3d", "depth_zbuffer", scaled(2.5, 1.0), "depth along the camera's axis, metres"),
    "distance": regression("3d", "depth_euclidean", scaled(2.5, 1.0), "distance to the camera, metres"),
    "normals": regression("3d", "normal", scaled(0.0, 1.0), "surface normals, camera's axes", 3, measure=angles),
    "semantic-segmentation": Task(
        *("semantic", "segment_semantic", len(SEMANTIC), labels(), cross_entropy, pixel_classes),
        *("class of the object at each place", 0.2, SEMANTIC),
    ),
    "object-class": Task(
        *("semantic", "class_object", len(SEMANTIC) - FIRST_OBJECT, labels(FIRST_OBJECT), cross_entropy),
        *(image_classes, "class of the object that fills most of the view", 0.2, SEMANTIC[FIRST_OBJECT:]),
    ),
    "scene-class": Task(
        *("semantic", "class_scene", len(ROOMS), labels(), cross_entropy, image_classes),
        *("kind of the room", 0.2, ROOMS),
    ),
}
MAP_TASKS = [name for name, task in TASKS.items() if task.stored not in ("class_object", "class_scene")]


def load_labels(archive, stored):
    """Labels as stored, in physical units where they have some."""
    values = archive[stored]
    if stored == "rgb":
        return torch.from_numpy(values).float() / 255
    scale = f"scale/{stored}"
    values = torch.from_numpy(values.astype(np.float32 if scale in archive else np.int16))
    return values / float(archive[scale]) if scale in archive else values


def mirrored(values, stored):
    """Labels of the view as a mirror shows it."""
    if values.ndim < 3:
        return values
    values = values.flip(2)
    return values * torch.tensor([-1.0, 1.0, 1.0]) if stored == "normal" else values


def draw_views(archive, task):
    """Draws training batches: views, half of them mirrored, in changed light where the task does not depend on it."""
    pixels, stored = torch.from_numpy(archive["rgb"]), load_labels(archive, task.stored)

    def draw(indices, generator):
        n = len(indices)
        images, values = zoo.CENTRED(pixels[indices]), stored[indices]
        flipped = torch.rand(n, generator=generator) < 0.5
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
        shape = (-1, *(1 for _ in values.shape[1:]))
        values = torch.where(flipped.view(shape), mirrored(values, task.stored), values)
        if task.colour:
            contrast, brightness = ((torch.rand(2, n, 1, 1, 1, generator=generator) * 2 - 1) * task.colour).unbind()
            images = images * (1 + contrast) + 2 * brightness
        return images, task.target(values)

    return draw


def write_probe(path, archive):
    """Views `x` with kinds of rooms `y`, and for each task an array of its name: classes, or what its network is trained to
    give, as (N, channels, 16, 16) means over places; of classes of places their shares."""
    arrays = {"x": archive["rgb"][::PROBE_STEP], "y": archive["class_scene"][::PROBE_STEP].astype(np.int64)}
    for name, task in TASKS.items():
        target = task.target(load_labels(archive, task.stored))[::PROBE_STEP]
        if name in MAP_TASKS:
            if task.classes:
                target = functional.one_hot(target, len(task.classes)).permute(0, 3, 1, 2)
            bits = functional.avg_pool2d(target.float(), MAP_SHRINK).numpy().astype(np.float16).view(np.uint16)
            half = 1 << (DROPPED_BITS - 1)
            arrays[name] = ((bits + half) >> DROPPED_BITS << DROPPED_BITS).astype(np.uint16).view(np.float16)
        else:
            arrays[name] = target.numpy().astype(np.int64)
    np.savez_compressed(path, **arrays)


def main():
    chosen = zoo.options(__doc__, write_probe="")
    if chosen.write_probe:
        write_probe(chosen.write_probe, np.load(chosen.data / "rooms" / "test.npz"))
        return
    experiment = zoo.Experiment("tasks", chosen)
    train_part, test_part = (np.load(chosen.data / "rooms" / f"{part}.npz") for part in ("train", "test"))
    views = zoo.CENTRED(test_part["rgb"])
    for seed, (name, task) in enumerate(TASKS.items()):
        if not experiment.wants(name):
            continue

        def build(name=name, task=task):
            make = dense_decoder if name in MAP_TASKS else class_decoder
            return EncoderDecoder(make(task.n_outputs))

        network, cost = zoo.train(
            build, draw_views(train_part, task), len(train_part["rgb"]), task.loss, SCHEDULE, seed, chosen
        )
        truth = task.target(load_labels(test_part, task.stored)).numpy()
        description = zoo.Description(
            summary=f"{name.replace('-', ' ')}, a {task.group} task on rooms: {task.told}",
            data=DATA,
            licence=LICENCE,
            kind="dense" if name in MAP_TASKS else "logits",
            measured_on=MEASURED_ON,
            classes=() if name in MAP_TASKS else task.classes,
            normalisation=zoo.CENTRED,
            size=(SIZE, SIZE),
            output_name="map" if name in MAP_TASKS else "logits",
            features="features",
            details={"group": task.group, "target": task.told},
        )

        def measure(run, task=task, truth=truth):
            return task.measure(run(views), truth)

        experiment.publish(name, network, views[:64], description, measure, seed, cost)


if __name__ == "__main__":
    main()
