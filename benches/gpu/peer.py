"""PyTorch's side: a process that does what `transferscore measure --on-request` does, and speaks as it does.

For each line "WORK [TIMES [SAMPLES]]" of standard input it prints a line of JSON with the seconds of each time. A work goes
from pictures in the host's memory to results there, as transferscore's does; both ways through pinned memory.
"""

import argparse
import contextlib
import json
import sys
import time

import torch
from torch.nn import functional

import networks

EPSILON = 8 / 255
# Of epsilon / steps, as transferscore's.
STEP_SHARE = 2.5
READ_SAMPLES = 8


class Peer:
    """Networks on a device, and the pictures that they are run on."""

    def __init__(self, arguments):
        self.device = torch.device(arguments.device)
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        self.steps, self.precision = arguments.steps, arguments.precision
        is_tf32 = arguments.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_tf32
        torch.backends.cudnn.benchmark = True
        self.layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
        load = lambda path: networks.loaded(arguments.network, path).to(self.device, memory_format=self.layout)
        self.models = [load(path) for path in arguments.weights]
        if arguments.compile:
            # One for each number of pictures and network, with gradients and without.
            torch._dynamo.config.cache_size_limit = 64
            self.models = [torch.compile(model, dynamic=False) for model in self.models]
        self.pictures = networks.pictures(networks.NETWORKS[arguments.network][1], arguments.samples)
        self.results = torch.empty_like(self.pictures)
        if self.device.type == "cuda":
            self.pictures, self.results = self.pictures.pin_memory(), self.results.pin_memory()

    def outputs(self, model, x):
        half = self.precision == "float16"
        with torch.autocast(self.device.type, torch.float16) if half else contextlib.nullcontext():
            return model(x).float()

    def on_device(self, n_samples):
        return self.pictures[:n_samples].to(self.device, non_blocking=True, memory_format=self.layout)

    def back(self, found):
        """The results in the host's memory; waits until they are there."""
        results = self.results[: len(found)]
        results.copy_(found)
        return results

    def gradient(self, n_samples):
        """The gradient of the cross-entropy to the network's own prediction."""
        x = self.on_device(n_samples).requires_grad_(True)
        logits = self.outputs(self.models[0], x)
        loss = functional.cross_entropy(logits, logits.detach().argmax(1), reduction="sum")
        return self.back(torch.autograd.grad(loss, x)[0])

    def perturbations(self, model, x, classes):
        """Projected gradient descent from the pictures themselves, on the device."""
        adversarial, step = x, STEP_SHARE * EPSILON / self.steps
        low, high = (x - EPSILON).clamp_(0, 1), (x + EPSILON).clamp_(0, 1)
        for _ in range(self.steps):
            leaf = adversarial.detach().requires_grad_(True)
            loss = functional.cross_entropy(self.outputs(model, leaf), classes, reduction="sum")
            gradient = torch.autograd.grad(loss, leaf)[0]
            adversarial = torch.clamp(leaf.detach() + step * gradient.sign(), low, high)
        return adversarial - x

    def attack(self, n_samples):
        x = self.on_device(n_samples)
        with torch.no_grad():
            classes = self.outputs(self.models[0], x).argmax(1)
        return self.back(self.perturbations(self.models[0], x, classes))

    def ranking(self, n_samples):
        """The deviations of every source and of the reference, the last network, under their own and each other's attacks.
        The reference is attacked once. The statistics of a handful of numbers are left out."""
        x = self.on_device(n_samples)
        clean, perturbations = [], []
        for model in self.models:
            with torch.no_grad():
                clean.append(self.outputs(model, x))
            perturbations.append(self.perturbations(model, x, clean[-1].argmax(1)))
        deviations = []
        with torch.no_grad():
            *sources, reference = range(len(self.models))
            for source in sources:
                for attacked in (source, reference):
                    for read in (source, reference):
                        deviated = self.outputs(self.models[read], x + perturbations[attacked]) - clean[read]
                        deviations.append(deviated)
            # Attacks on the device until here: this waits for them.
            return torch.stack(deviations).cpu()

    def readings(self, work, results):
        """What tells one result from another for each of the first samples: as `transferscore measure` has it."""
        if work == "gradient":
            return results[:READ_SAMPLES].flatten(1).norm(dim=1).tolist()
        # All of them, since another number of pictures would be compiled for once more.
        x = self.on_device(len(results))
        with torch.no_grad():
            classes = self.outputs(self.models[0], x).argmax(1)
            attacked = self.outputs(self.models[0], x + results.to(self.device))
            losses = functional.cross_entropy(attacked, classes, reduction="none")
        return losses[:READ_SAMPLES].tolist()

    def free(self):
        """Gives back memory of the card that is not in use, as other contenders' turns come."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def tell(line):
    print(json.dumps(line), flush=True)


def described(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def serve(arguments):
    try:
        peer = Peer(arguments)
        works = {work: getattr(peer, work) for work in arguments.works}
        readings = {}
        for work in arguments.works:
            results = works[work](min(arguments.samples, arguments.first))
            readings[work] = [] if work == "ranking" else peer.readings(work, results)
        peer.free()
        tell({"provider": f"PyTorch on {arguments.device}", "readings": readings})
    except Exception as error:
        return tell({"error": described(error)})
    for line in sys.stdin:
        work, times, n_samples = (line.split() + ["1", arguments.samples])[:3] if line.split() else ("", 1, 1)
        seconds = []
        try:
            for _ in range(int(times)):
                start = time.perf_counter()
                works[work](int(n_samples))
                seconds.append(time.perf_counter() - start)
            tell({"work": work, "seconds": seconds})
        except Exception as error:
            tell({"error": described(error)})
        peer.free()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=networks.NETWORKS)
    parser.add_argument("--weights", nargs="+", required=True, help="a file for each network")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", choices=["float32", "tf32", "float16"], default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--samples", type=int, default=64, help="the most that a request names")
    parser.add_argument("--first", type=int, default=64, help="samples of the first run, which readings are of")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--works", nargs="+", default=["gradient", "attack"])
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
