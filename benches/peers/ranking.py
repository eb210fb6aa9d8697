"""Times a ranking of five sources: transferscore's server against loops of batch size 1 in PyTorch.

The loops are those of the method's first implementations: for each source and each sample by itself, attack the
reference, attack the source, and run both models on both attacks. They are timed on a few samples and counted per
sample; transferscore ranks all samples through its RPC, statistics with intervals included. Both use two threads and
take turns, round after round; what counts is the median of the ratios within a round.

    python ranking.py --transferscore ../../target/release/transferscore [--rounds 3] [NETWORK]...

needs requirements.txt. Networks have random weights, samples are noise: times depend on neither.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy
import torch
import torchvision
from torch import nn

N_SOURCES = 5
EPSILON, STEPS = 8 / 255, 10


def small_convolutional():
    """Three convolutions, as for digits or thumbnails."""
    layers = []
    for width_in, width_out in [(3, 16), (16, 32), (32, 64)]:
        layers += [nn.Conv2d(width_in, width_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 10))


def resnet_18():
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def sigmoid_network():
    """One hidden layer, the paper's synthetic experiment."""
    return nn.Sequential(nn.Linear(50, 100), nn.Sigmoid(), nn.Linear(100, 10))


# Name: network, sample's shape, attack, samples ranked by the server, samples of the loops.
NETWORKS = {
    "sigmoid network, virtual attack": (sigmoid_network, (50,), "virtual", 2_000, 40),
    "three convolutions, PGD-10": (small_convolutional, (3, 32, 32), "pgd", 512, 8),
    "three convolutions, virtual attack": (small_convolutional, (3, 32, 32), "virtual", 512, 8),
    "ResNet-18, PGD-10": (resnet_18, (3, 32, 32), "pgd", 32, 1),
}


def projected_gradient(model, sample, label):
    adversarial = sample.clone()
    for _ in range(STEPS):
        adversarial.requires_grad_(True)
        loss = nn.functional.cross_entropy(model(adversarial), label)
        gradient = torch.autograd.grad(loss, adversarial)[0]
        step = adversarial.detach() + 2.5 * EPSILON / STEPS * gradient.sign()
        adversarial = torch.clamp(sample + torch.clamp(step - sample, -EPSILON, EPSILON), 0, 1)
    return adversarial - sample


def singular_direction(model, sample):
    jacobian = torch.autograd.functional.jacobian(model, sample).reshape(-1, sample.numel())
    return torch.linalg.svd(jacobian, full_matrices=False), jacobian


def loops(sources, reference, samples, attack):
    """The deviations of all pairs, one sample at a time; the statistics of a handful of numbers are left out."""
    for source in sources:
        for sample in samples.split(1):
            if attack == "virtual":
                (_, _, from_source), of_source = singular_direction(source, sample)
                (_, _, from_reference), of_reference = singular_direction(reference, sample)
                for direction in (from_source[0], from_reference[0]):
                    of_source @ direction, of_reference @ direction
                continue
            clean = [model(sample) for model in (source, reference)]
            for attacked, outputs in zip((source, reference), clean):
                perturbation = projected_gradient(attacked, sample, outputs.argmax(1))
                with torch.no_grad():
                    [model(sample + perturbation) for model in (source, reference)]


def seconds_of(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def start_server(binary, folder, n_samples):
    serve = [binary, "serve", "--models", folder, "--datasets", folder, "--listen", "127.0.0.1:0", "--threads", "2"]
    server = subprocess.Popen(
        [*serve, "--sample-limit", str(n_samples)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return server, server.stdout.readline().split()[-1]


def measure(binary, name, rounds):
    build, shape, attack, n_samples, n_looped = NETWORKS[name]
    torch.manual_seed(0)
    models = [build().eval() for _ in range(N_SOURCES + 1)]
    samples = torch.rand(n_samples, *shape)
    names = [*(f"source-{index}" for index in range(N_SOURCES)), "reference"]
    with tempfile.TemporaryDirectory() as folder:
        for model, model_name in zip(models, names):
            batch = {0: torch.export.Dim("batch", min=1, max=4096)}
            torch.onnx.export(
                model, (samples[:2],), pathlib.Path(folder, f"{model_name}.onnx"), dynamo=True, verbose=False,
                external_data=False, dynamic_shapes=(batch,),
            )
        numpy.savez(pathlib.Path(folder, "probe.npz"), x=samples.numpy())
        server, address = start_server(binary, folder, n_samples)
        # The loops match no gradients and fit no heads beyond those that the service always fits.
        rank = [binary, "rank", "--server", address, "--reference", "reference", "--dataset", "probe", "--json"]
        rank += ["--measure", "function-matching", "--attack", attack, *names[:-1]]
        rank += ["--no-gradient-matching"] if attack == "pgd" else []
        try:
            # The first call compiles; every call has a seed of its own, so that none is answered from the cache.
            run = lambda seed: subprocess.run([*rank, "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL)
            run(0)
            ours, theirs = [], []
            for seed in range(1, rounds + 1):
                ours.append(seconds_of(lambda: run(seed)) / n_samples)
                theirs.append(seconds_of(lambda: loops(models[:-1], models[-1], samples[:n_looped], attack)) / n_looped)
        finally:
            server.terminate()
            server.wait()
    return ours, theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transferscore", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    print("| five sources | ours, ms a sample | loops, ms a sample | loops / ours |")
    print("|---|---|---|---|")
    for name in arguments.networks:
        ours, theirs = measure(arguments.transferscore, name, arguments.rounds)
        ratio = statistics.median(b / a for a, b in zip(ours, theirs))
        print(f"| {name} | {1e3 * statistics.median(ours):.2f} | {1e3 * statistics.median(theirs):.1f} | {ratio:.0f} |", flush=True)


main()
