"""The networks that are measured, in plain PyTorch, with random weights from a seed; and the same networks as ONNX files.

ResNet-50 (He et al. 2016, the stride in the 3x3 convolution), ViT-B/16 (Dosovitskiy et al. 2021, the class token's first
value folded into its position's), ConvNeXt-tiny (Liu et al. 2022). Each module that is not one of PyTorch's own says in
`record` what operators its `forward` is.
"""

import ctypes
import pathlib

import torch
from torch import nn
from torch.nn import functional

import onnx_file

# Name, function that makes the network, height and width of the pictures.
NETWORKS = {
    "ResNet-50": (lambda: resnet(), 224),
    "ViT-B/16": (lambda: VisionTransformer(), 224),
    "ConvNeXt-tiny": (lambda: convnext(), 224),
    # All of their parts in small, to try the measurements themselves.
    "small": (lambda: small(), 32),
}
N_CLASSES = 1000
STATISTICS_PICTURES = 8


def content(tensor):
    """The bytes of a tensor; without NumPy, which may not be there."""
    tensor = tensor.detach().cpu().contiguous()
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def constant(graph, tensor):
    return graph.constant(list(tensor.shape), content(tensor.float()))


class Bottleneck(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        convolution = lambda *sizes, **more: nn.Conv2d(*sizes, bias=False, **more)
        self.branch = nn.Sequential(
            convolution(width_in, width, 1), nn.BatchNorm2d(width), nn.ReLU(),
            convolution(width, width, 3, stride=stride, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            convolution(width, 4 * width, 1), nn.BatchNorm2d(4 * width),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or width_in != 4 * width:
            self.shortcut = nn.Sequential(
                convolution(width_in, 4 * width, 1, stride=stride), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        return functional.relu(self.branch(x) + self.shortcut(x))

    def record(self, graph, x):
        return graph.apply("Relu", graph.apply("Add", record(self.branch, graph, x), record(self.shortcut, graph, x)))


class Attention(nn.Module):
    """Self-attention of pre-normalised tokens and the two-layer perceptron after it."""

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads, self.head_width = n_heads, width // n_heads
        self.before = nn.LayerNorm(width, eps=1e-6)
        self.queries, self.keys, self.values = (nn.Linear(width, width) for _ in range(3))
        self.joined = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        normed = self.before(x)
        heads = lambda layer: layer(normed).unflatten(2, (self.n_heads, self.head_width)).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(heads(self.queries), heads(self.keys), heads(self.values))
        x = x + self.joined(attended.transpose(1, 2).flatten(2))
        return x + self.perceptron(x)

    def record(self, graph, x):
        normed = record(self.before, graph, x)
        split = graph.integers(0, 0, self.n_heads, self.head_width)

        def heads(layer, order):
            return graph.apply("Transpose", graph.apply("Reshape", record(layer, graph, normed), split), perm=order)

        scale = constant(graph, torch.tensor(self.head_width**-0.5))
        queries, keys = heads(self.queries, [0, 2, 1, 3]), heads(self.keys, [0, 2, 3, 1])
        scores = graph.apply("Softmax", graph.apply("Mul", graph.apply("MatMul", queries, keys), scale), axis=-1)
        attended = graph.apply("MatMul", scores, heads(self.values, [0, 2, 1, 3]))
        attended = graph.apply("Transpose", attended, perm=[0, 2, 1, 3])
        attended = graph.apply("Reshape", attended, graph.integers(0, 0, self.n_heads * self.head_width))
        x = graph.apply("Add", x, record(self.joined, graph, attended))
        return graph.apply("Add", x, record(self.perceptron, graph, x))


class Tokens(nn.Module):
    """Patches as tokens behind one more, and their positions."""

    def __init__(self, width_in, width, size, patch):
        super().__init__()
        self.patches = nn.Conv2d(width_in, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + (size // patch) ** 2, width))

    def forward(self, x):
        return functional.pad(self.patches(x).flatten(2).transpose(1, 2), (0, 0, 1, 0)) + self.positions

    def record(self, graph, x):
        rows = graph.apply("Reshape", record(self.patches, graph, x), graph.integers(0, self.positions.shape[2], -1))
        padding = graph.integers(0, 1, 0, 0, 0, 0)
        rows = graph.apply("Pad", graph.apply("Transpose", rows, perm=[0, 2, 1]), padding)
        return graph.apply("Add", rows, constant(graph, self.positions))


class FirstToken(nn.Module):
    def forward(self, x):
        return x[:, 0]

    def record(self, graph, x):
        first = graph.constant([], (0).to_bytes(8, "little"), onnx_file.INT64)
        return graph.apply("Gather", x, first, axis=1)


class VisionTransformer(nn.Sequential):
    def __init__(self, width_in=3, width=768, n_heads=12, depth=12, size=224, patch=16):
        blocks = [Attention(width, n_heads) for _ in range(depth)]
        head = [nn.LayerNorm(width, eps=1e-6), FirstToken(), nn.Linear(width, N_CLASSES)]
        super().__init__(Tokens(width_in, width, size, patch), *blocks, *head)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, width):
        super().__init__(width, eps=1e-6)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def record(self, graph, x):
        normed = layer_norm(self, graph, graph.apply("Transpose", x, perm=[0, 2, 3, 1]))
        return graph.apply("Transpose", normed, perm=[0, 3, 1, 2])


class InvertedBlock(nn.Module):
    """ConvNeXt's: a convolution of each channel by itself, then a perceptron at each pixel, scaled and added."""

    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        # Trained networks have scales of this order; at the 1e-6 that training begins with, blocks would do nothing.
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        rows = self.perceptron(self.depthwise(x).permute(0, 2, 3, 1)) * self.scale
        return x + rows.permute(0, 3, 1, 2)

    def record(self, graph, x):
        rows = graph.apply("Transpose", record(self.depthwise, graph, x), perm=[0, 2, 3, 1])
        rows = graph.apply("Mul", record(self.perceptron, graph, rows), constant(graph, self.scale))
        return graph.apply("Add", x, graph.apply("Transpose", rows, perm=[0, 3, 1, 2]))


def pooled(width, *norm):
    """A head on the mean over all pixels."""
    return [nn.AdaptiveAvgPool2d(1), *norm, nn.Flatten(), nn.Linear(width, N_CLASSES)]


def resnet(depths=(3, 4, 6, 3), width=64):
    layers = [nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    width_in = width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            layers.append(Bottleneck(width_in, width << stage, 2 if stage > 0 and block == 0 else 1))
            width_in = 4 * (width << stage)
    return nn.Sequential(*layers, *pooled(width_in))


def convnext(depths=(3, 3, 9, 3), width=96):
    layers = [nn.Conv2d(3, width, 4, stride=4), ChannelNorm(width)]
    for stage, depth in enumerate(depths):
        if stage > 0:
            layers += [ChannelNorm(width), nn.Conv2d(width, 2 * width, 2, stride=2)]
            width *= 2
        layers += [InvertedBlock(width) for _ in range(depth)]
    return nn.Sequential(*layers, *pooled(width, ChannelNorm(width)))


def small():
    layers = [nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.MaxPool2d(3, stride=2, padding=1), Bottleneck(16, 8, 1), ChannelNorm(32), InvertedBlock(32)]
    return nn.Sequential(*layers, VisionTransformer(32, 32, 2, 1, size=8, patch=2))


def made(name, seed, device="cpu"):
    """The network in inference mode with weights from the seed, and batch statistics from one pass over noise."""
    torch.manual_seed(seed)
    build, size = NETWORKS[name]
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.to(device).train()(torch.rand(STATISTICS_PICTURES, 3, size, size).to(device))
    return model.cpu().eval().requires_grad_(False)


def loaded(name, path):
    """The network with the weights of a file."""
    model = NETWORKS[name][0]()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval().requires_grad_(False)


def export(model, name, path):
    """Writes the network as an ONNX file that takes any number of pictures."""
    size = NETWORKS[name][1]
    graph = onnx_file.Graph()
    last = record(model, graph, "x")
    graph.apply("Identity", last, output="y")
    graph.write(path, [("x", ["batch", 3, size, size])], [("y", ["batch", N_CLASSES])])


def prepare(name, seed, folder, model_name, device="cpu"):
    """Makes a network once: weights for PyTorch in `folder`, the ONNX file where a server finds it."""
    weights, file = pathlib.Path(folder, f"{model_name}.pt"), pathlib.Path(folder, "models", f"{model_name}.onnx")
    if not weights.exists() or not file.exists():
        model = made(name, seed, device)
        torch.save(model.state_dict(), weights)
        export(model, name, file)
    return weights


def pictures(size, n_pictures):
    """Noise in 0..1."""
    return torch.rand(n_pictures, 3, size, size, generator=torch.Generator().manual_seed(1))


def record(module, graph, x):
    """Adds a module to a graph and gives the name of its output."""
    if hasattr(module, "record"):
        return module.record(graph, x)
    if isinstance(module, nn.Sequential):
        for child in module:
            x = record(child, graph, x)
        return x
    return LEAVES[type(module)](module, graph, x)


def convolution(module, graph, x):
    pads = [*module.padding, *module.padding]
    inputs = [x, constant(graph, module.weight)] + ([] if module.bias is None else [constant(graph, module.bias)])
    return graph.apply(
        "Conv", *inputs, kernel_shape=list(module.kernel_size), strides=list(module.stride), pads=pads,
        dilations=list(module.dilation), group=module.groups,
    )


def batch_norm(module, graph, x):
    tensors = [module.weight, module.bias, module.running_mean, module.running_var]
    inputs = [constant(graph, tensor) for tensor in tensors]
    return graph.apply("BatchNormalization", x, *inputs, epsilon=float(module.eps))


def linear(module, graph, x):
    product = graph.apply("MatMul", x, constant(graph, module.weight.t()))
    return graph.apply("Add", product, constant(graph, module.bias))


def layer_norm(module, graph, x):
    inputs = [constant(graph, module.weight), constant(graph, module.bias)]
    return graph.apply("LayerNormalization", x, *inputs, axis=-1, epsilon=float(module.eps))


def max_pool(module, graph, x):
    window = {"kernel_shape": [module.kernel_size] * 2, "strides": [module.stride] * 2, "pads": [module.padding] * 4}
    return graph.apply("MaxPool", x, **window)


LEAVES = {
    nn.Conv2d: convolution,
    nn.BatchNorm2d: batch_norm,
    nn.Linear: linear,
    nn.LayerNorm: layer_norm,
    nn.MaxPool2d: max_pool,
    nn.ReLU: lambda _, graph, x: graph.apply("Relu", x),
    nn.GELU: lambda _, graph, x: graph.apply("Gelu", x),
    nn.Identity: lambda _, graph, x: x,
    nn.AdaptiveAvgPool2d: lambda _, graph, x: graph.apply("GlobalAveragePool", x),
    nn.Flatten: lambda _, graph, x: graph.apply("Flatten", x),
}
