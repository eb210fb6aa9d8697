"""Trains sources of seven architectures on the same data: does a better network transfer better, and is it seen?

The variant of the experiment on data distributions in Liang et al. (ICML 2021): sources that differ in architecture
alone. All tell CIFAR-10's eight classes apart that the experiment on distributions uses; reference and probe set are
those of that experiment. The architectures are the known ones, made narrow so that a CPU trains each in minutes; both
residual networks and MobileNetV2 halve the image in their first convolution for the same reason.

    python models/recipes/architectures.py
"""

import torch
import zoo
from distributions import ANIMALS, CIFAR10, CIFAR10_LICENCE, VEHICLES, accuracy_on, load_cifar10, train_classifier
from torch import nn
from torchvision.models import MobileNetV2

CLASSES = sorted(VEHICLES | ANIMALS)
N_CLASSES = len(CLASSES)
N_SEEDS = 1


def fully_connected():
    """Two hidden layers on the pixels."""
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(3072, 192), nn.BatchNorm1d(192), nn.ReLU()),
        *(nn.Linear(192, 96), nn.BatchNorm1d(96), nn.ReLU()),
        nn.Linear(96, N_CLASSES),
    )


def lenet():
    """LeCun et al. 1998, with ReLU and max pooling."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, N_CLASSES),
    )


def alexnet():
    """Krizhevsky et al. 2012: five convolutions, three linear layers, dropout; a quarter to a sixth as wide."""

    def layer(n_inputs, n_outputs, size=3):
        return nn.Conv2d(n_inputs, n_outputs, size, padding=size // 2), nn.ReLU()

    return nn.Sequential(
        *(*layer(3, 24, 5), nn.MaxPool2d(2)),
        *(*layer(24, 64, 5), nn.MaxPool2d(2)),
        *(*layer(64, 96), *layer(96, 64), *layer(64, 64), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, 256), nn.ReLU()),
        *(nn.Dropout(0.3), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, N_CLASSES)),
    )


def resnet18():
    """He et al. 2016: eight blocks of two convolutions, a quarter as wide."""
    layers, n_inputs = [zoo.convolution(3, 16, 2)], 16
    for width, stride in ((16, 1), (32, 2), (64, 2), (128, 2)):
        layers += [zoo.Residual(n_inputs, width, stride), zoo.Residual(width, width)]
        n_inputs = width
    return nn.Sequential(*layers, zoo.pooled(n_inputs, N_CLASSES))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution beside a shortcut; four times as wide outside as inside."""

    def __init__(self, n_inputs, width, stride):
        super().__init__()
        n_outputs = 4 * width
        self.path = nn.Sequential(
            *(zoo.convolution(n_inputs, width, 1, 1), zoo.convolution(width, width, stride)),
            *(nn.Conv2d(width, n_outputs, 1, bias=False), nn.BatchNorm2d(n_outputs)),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or n_inputs != n_outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False), nn.BatchNorm2d(n_outputs)
            )

    def forward(self, x):
        return torch.relu(self.path(x) + self.shortcut(x))


def resnet50():
    """He et al. 2016: sixteen bottleneck blocks, a fifth as wide."""
    layers, n_inputs = [zoo.convolution(3, 16, 2)], 16
    for width, n_blocks, stride in ((12, 3, 1), (24, 4, 2), (48, 6, 2), (96, 3, 2)):
        for block in range(n_blocks):
            layers.append(Bottleneck(n_inputs, width, stride if block == 0 else 1))
            n_inputs = 4 * width
    return nn.Sequential(*layers, zoo.pooled(n_inputs, N_CLASSES))


def mobilenet_v2():
    """Sandler et al. 2018 at half width; the image is halved three times instead of five."""
    setting = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 2, 1)]
    return MobileNetV2(N_CLASSES, width_mult=0.5, inverted_residual_setting=setting, dropout=0.1)


class Attention(nn.Module):
    """Self-attention and a perceptron, each behind a normalisation and beside a shortcut."""

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        _, n_tokens, width = x.shape
        heads = self.project(self.before(x)).reshape(-1, n_tokens, 3, self.n_heads, width // self.n_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(query @ key.transpose(-1, -2) * (width // self.n_heads) ** -0.5, -1)
        x = x + self.gather((weights @ value).transpose(1, 2).reshape(-1, n_tokens, width))
        return x + self.perceptron(self.between(x))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2021, on 64 patches of 4×4 pixels, with mean pooling in the place of a class token."""

    def __init__(self, width=96, n_layers=5, n_heads=4):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.places = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        self.layers = nn.Sequential(*(Attention(width, n_heads) for _ in range(n_layers)), nn.LayerNorm(width))
        self.head = nn.Linear(width, N_CLASSES)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.layers(tokens).mean(1))


ARCHITECTURES = {
    "fully-connected": (fully_connected, zoo.Schedule(epochs=25, learning_rate=1e-3)),
    "lenet": (lenet, zoo.Schedule(epochs=25, learning_rate=2e-3)),
    "alexnet": (alexnet, zoo.Schedule(epochs=15, learning_rate=1e-3)),
    "resnet-18": (resnet18, zoo.Schedule(epochs=15)),
    "resnet-50": (resnet50, zoo.Schedule(epochs=15)),
    "mobilenet-v2": (mobilenet_v2, zoo.Schedule(epochs=15)),
    "vit": (VisionTransformer, zoo.Schedule(epochs=25, learning_rate=1.5e-3)),
}


def main():
    chosen = zoo.options(__doc__, seeds=N_SEEDS)
    experiment = zoo.Experiment("architectures", chosen)
    train_part, test_part = load_cifar10(chosen.data, CLASSES)
    classes = tuple((VEHICLES | ANIMALS)[number] for number in CLASSES)
    for seed in range(chosen.seeds):
        for number, (architecture, (build, schedule)) in enumerate(ARCHITECTURES.items()):
            name = f"{architecture}-seed-{seed}"
            if not experiment.wants(name):
                continue
            network, cost = train_classifier(build, train_part, schedule, 100 * seed + number, chosen)
            description = zoo.Description(
                summary=f"{architecture}, narrow: tells {', '.join(classes)} apart",
                data=CIFAR10,
                licence=CIFAR10_LICENCE,
                kind="logits",
                measured_on="CIFAR-10's test images of the same classes, 500 each",
                classes=classes,
                normalisation=zoo.CENTRED,
                size=(32, 32),
                details={"architecture": architecture, "draw": seed},
            )
            example = zoo.CENTRED(test_part[0][:64])
            measure, drawn = accuracy_on(test_part), 100 * seed + number
            experiment.publish(name, network, example, description, measure, drawn, cost)


if __name__ == "__main__":
    main()
