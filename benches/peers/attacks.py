"""Times ten steps of projected gradient descent: transferscore's server, Foolbox, torchattacks, round after round.

Each attacks the same pictures of the same network within the same ball, L-infinity of 8/255 by steps of 2/255, from the
pictures themselves, away from the classes that the network gives them. The Python libraries live in processes of their
own with the same number of threads and take the pictures in batches; transferscore is asked through its command line,
whose start counts for it as its answer does: pixels, norms, classes and losses before and after. The parent asks them in
turn; what counts is the median of the ratios within a round. The mean loss that each reached stands beside.

    python attacks.py --transferscore ../../target/release/transferscore [--rounds 5] [NETWORK]...

needs requirements.txt. Networks have random weights and batch statistics from one pass over the pictures.
"""

import argparse
import json
import math
import multiprocessing
import pathlib
import statistics
import subprocess
import tempfile
import time

import networks

# Name, torchvision builder, picture size, pictures, batch of the Python libraries.
NETWORKS = {
    "ResNet-18": ("resnet18", 32, 128, 32),
    "ResNet-50": ("resnet50", 224, 16, 4),
}
CONTENDERS = ["transferscore", "foolbox", "torchattacks"]
EPSILON, STEP, STEPS = 8 / 255, 2 / 255, 10


def network(name):
    """The network in inference mode, with batch statistics that fit its weights, and its pictures."""
    import torch

    builder, size, n_pictures, _ = NETWORKS[name]
    torch.manual_seed(0)
    pictures = torch.rand(n_pictures, 3, size, size)
    return networks.network(builder, size, pictures), pictures


def export(name, folder):
    """Writes the model and the pictures as a server finds them."""
    import numpy
    import torch

    model, pictures = network(name)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "datasets").mkdir(exist_ok=True)
    batch = {0: torch.export.Dim("batch", min=1, max=1024)}
    torch.onnx.export(
        model, (pictures[:4],), folder / "models" / "network.onnx", input_names=["x"], output_names=["y"], dynamo=True,
        opset_version=20, external_data=False, dynamic_shapes=(batch,), verbose=False,
    )
    numpy.savez(folder / "datasets" / "pictures.npz", x=pictures.numpy())


def prepared(contender, name, threads):
    """A function without arguments that attacks all pictures and gives the mean loss reached."""
    import torch

    torch.set_num_threads(threads)
    model, pictures = network(name)
    with torch.no_grad():
        classes = model(pictures).argmax(1)
    size = NETWORKS[name][3]
    batches = [(pictures[i : i + size], classes[i : i + size]) for i in range(0, len(pictures), size)]
    if contender == "foolbox":
        import foolbox

        attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
            abs_stepsize=STEP, steps=STEPS, random_start=False
        )
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        run = lambda x, y: attack.run(wrapped, x, y, epsilon=EPSILON)
    else:
        import torchattacks

        attack = torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS, random_start=False)
        run = attack

    def attacked():
        return torch.cat([run(x, y) for x, y in batches])

    def loss(adversarial):
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(adversarial), classes).item()

    return attacked, loss


def serve(contender, name, threads, pipe):
    """A Python contender's process: answers each request with the seconds of one run, the first with its loss."""
    try:
        attacked, loss = prepared(contender, name, threads)
        pipe.send(loss(attacked()))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {str(error)[:300]}")
        return
    while pipe.recv():
        start = time.perf_counter()
        attacked()
        pipe.send(time.perf_counter() - start)


class Server:
    """A transferscore server, and attacks of its network through the command line."""

    def __init__(self, binary, folder, threads):
        self.binary = binary
        self.process = subprocess.Popen(
            [binary, "serve", "--models", folder / "models", "--datasets", folder / "datasets", "--listen",
             "127.0.0.1:0", "--threads", str(threads), "--log", "warn"],
            stdout=subprocess.PIPE, text=True,
        )
        line = self.process.stdout.readline()
        self.address = line.rsplit(" ", 1)[-1].strip()

    def attack(self, *more):
        command = [self.binary, "attack", "network", "--dataset", "pictures", "--server", self.address, "--attack", "pgd"]
        command += ["--epsilon", str(EPSILON), "--step-size", str(STEP), "--steps", str(STEPS), *more]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def loss(self):
        last = json.loads(self.attack("--json").splitlines()[-1])
        return last["summary"]["radii"][0]["meanLoss"]

    def seconds(self):
        start = time.perf_counter()
        self.attack()
        return time.perf_counter() - start

    def stop(self):
        self.process.terminate()
        self.process.wait()


def measure(name, binary, folder, threads, rounds):
    """Seconds of each contender in each round, and the mean loss that it reached."""
    context = multiprocessing.get_context("spawn")
    pipes, losses = {}, {}
    for contender in CONTENDERS[1:]:
        mine, theirs = context.Pipe()
        context.Process(target=serve, args=(contender, name, threads, theirs), daemon=True).start()
        loss = mine.recv()  # one after the other, as the first run takes all cores
        if isinstance(loss, str):
            print(f"{contender}, {name}: {loss}", flush=True)
        else:
            pipes[contender], losses[contender] = mine, loss
    server = Server(binary, folder, threads)
    try:
        losses["transferscore"] = server.loss()
        seconds = {contender: [] for contender in ["transferscore", *pipes]}
        for _ in range(rounds):
            seconds["transferscore"].append(server.seconds())
            for contender, pipe in pipes.items():
                pipe.send(True)
                seconds[contender].append(pipe.recv())
    finally:
        server.stop()
        for pipe in pipes.values():
            pipe.send(False)
    return seconds, losses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--transferscore", default="../../target/release/transferscore", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the models, which are used again if there")
    arguments = parser.parse_args()
    heads = ["network", "pictures", "ours, s", "foolbox / ours", "torchattacks / ours"]
    print("| " + " | ".join([*heads, *(f"loss, {contender}" for contender in CONTENDERS)]) + " |")
    print("|---" * (len(heads) + 3) + "|")
    for name in arguments.networks or NETWORKS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.keep or pathlib.Path(temporary)) / f"attack-{NETWORKS[name][0]}"
            if not (folder / "datasets" / "pictures.npz").exists():
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    pool.apply(export, (name, folder))
            binary = arguments.transferscore.resolve()
            seconds, losses = measure(name, binary, folder, arguments.threads, arguments.rounds)
        ours = seconds["transferscore"]
        cells = [name, str(NETWORKS[name][2]), f"{statistics.median(ours):.2f}"]
        for peer in CONTENDERS[1:]:
            ratios = [theirs / own for theirs, own in zip(seconds.get(peer, []), ours)]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
        cells += [f"{losses.get(contender, math.nan):.3f}" for contender in CONTENDERS]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
