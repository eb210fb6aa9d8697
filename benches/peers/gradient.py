"""Times the input gradient of seven networks: transferscore's exported graph, PyTorch eager, torch.compile, onnx-ad.

Each contender lives in a process of its own with the same number of threads and computes, from the same picture
batch and the same cotangent of the logits, the logits and the gradient with respect to the pictures. The parent asks
them in turn, round after round, so that all meet the same noise; what counts is the median of the ratios within a
round. Before that the gradients are compared with PyTorch's in double precision; the error of PyTorch's own in single
precision stands beside ours, as a Relu near 0 may fall on either side.

    python gradient.py --transferscore ../../target/release/transferscore [--rounds 15] [NETWORK]...

needs requirements.txt. Networks have random weights and batch statistics from one pass over the pictures: times do
not depend on the weights, and denormal numbers do not occur.
"""

import argparse
import math
import multiprocessing
import pathlib
import statistics
import subprocess
import tempfile
import time

import networks

BATCH = 4
# Name, torchvision builder, picture size, batch, whether it is convolutional.
NETWORKS = {
    "ResNet-18": ("resnet18", 32, 32, True),
    "ResNet-50": ("resnet50", 224, BATCH, True),
    "MobileNetV3-small": ("mobilenet_v3_small", 224, BATCH, True),
    "EfficientNet-B0": ("efficientnet_b0", 224, BATCH, True),
    "DenseNet-121": ("densenet121", 224, BATCH, True),
    "ConvNeXt-tiny": ("convnext_tiny", 224, BATCH, True),
    "ViT-B/16": ("vit_b_16", 224, BATCH, False),
}
CONTENDERS = ["transferscore", "eager", "compile", "onnx-ad", "forward"]


def network(name):
    """The network in inference mode, with batch statistics that fit its weights, and its pictures."""
    import torch

    builder, size, batch, _ = NETWORKS[name]
    torch.manual_seed(0)
    pictures = torch.randn(batch, 3, size, size)
    return networks.network(builder, size, pictures), pictures


def task(name):
    """The network, its pictures, and a cotangent of its logits."""
    import torch

    model, pictures = network(name)
    return model, pictures, torch.randn(pictures.shape[0], 1000, generator=torch.Generator().manual_seed(1))


def exact(name):
    """The gradient in double precision."""
    import torch

    model, pictures, cotangent = task(name)
    leaf = pictures.double().requires_grad_(True)
    return torch.autograd.grad(model.double()(leaf), leaf, cotangent.double())[0].numpy()


def export(name, folder):
    """Writes the forward model, and onnx-ad's gradient graph, for which it needs all sizes to be declared."""
    import onnx
    import onnx_ad
    import torch

    model, pictures = network(name)
    forward = folder / "forward.onnx"
    batch = {0: torch.export.Dim("batch", min=1, max=1024)}
    torch.onnx.export(
        model, (pictures,), forward, input_names=["x"], output_names=["y"], dynamo=True, opset_version=20,
        external_data=False, dynamic_shapes=(batch,), verbose=False,
    )
    fixed = onnx.load(forward)
    del fixed.graph.value_info[:]
    for port in [*fixed.graph.input, *fixed.graph.output]:
        port.type.tensor_type.shape.dim[0].dim_value = pictures.shape[0]
    try:
        fixed = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
        onnx.save(onnx_ad.reverse(fixed, layout="onnx"), folder / "onnx-ad.onnx")
    except Exception as error:
        print(f"onnx-ad, {name}: {type(error).__name__}: {str(error)[:200]}", flush=True)


def derive(transferscore, folder):
    """Writes transferscore's gradient graph and gives the seconds that it took."""
    start = time.perf_counter()
    command = [transferscore, "gradient", folder / "forward.onnx", "--output", folder / "transferscore.onnx"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def session(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def prepared(contender, name, folder, threads):
    """A function without arguments that computes logits and gradient; its arrays are made once."""
    import numpy
    import torch

    torch.set_num_threads(threads)
    model, pictures, cotangent = task(name)
    x, u = pictures.numpy(), cotangent.numpy()
    if contender == "transferscore":
        run = session(folder / "transferscore.onnx", threads)
        return lambda: run.run(["y", "gradient/x"], {"x": x, "cotangent/y": u})
    if contender == "forward":
        run = session(folder / "forward.onnx", threads)
        return lambda: run.run(["y"], {"x": x})
    if contender == "onnx-ad":
        run = session(folder / "onnx-ad.onnx", threads)
        seed = numpy.ascontiguousarray(u[..., None])
        names = [port.name for port in run.get_inputs()]
        outputs = [port.name for port in run.get_outputs()]
        return lambda: [value.reshape(value.shape[:4]) for value in run.run(outputs, {names[0]: x, names[1]: seed})]
    model = torch.compile(model) if contender == "compile" else model

    def gradient():
        leaf = pictures.requires_grad_(True)
        y = model(leaf)
        return [y.detach().numpy(), torch.autograd.grad(y, leaf, cotangent)[0].numpy()]

    return gradient


def serve(contender, name, folder, threads, pipe):
    """A contender's process: answers each request with the seconds of one run, the first with its gradient."""
    try:
        run = prepared(contender, name, folder, threads)
        result = run()[-1]
        run()
        pipe.send(result)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {str(error)[:300]}")
        return
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)


def measure(name, folder, threads, rounds, contenders):
    """Seconds of each contender in each round, and the relative error of its gradient."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        truth = pool.apply(exact, (name,))
    pipes, results = {}, {}
    for contender in contenders:
        mine, theirs = context.Pipe()
        context.Process(target=serve, args=(contender, name, folder, threads, theirs), daemon=True).start()
        result = mine.recv()  # one after the other: compilation takes both cores
        if isinstance(result, str):
            print(f"{contender}, {name}: {result}", flush=True)
        else:
            pipes[contender], results[contender] = mine, result
    seconds = {contender: [] for contender in pipes}
    for _ in range(rounds):
        for contender, pipe in pipes.items():
            pipe.send(True)
            seconds[contender].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    errors = {
        contender: float(((result - truth) ** 2).sum() ** 0.5 / (truth**2).sum() ** 0.5)
        for contender, result in results.items()
        if contender != "forward"
    }
    return seconds, errors


def ratio(seconds, contender, scale=1.0):
    """The median over rounds of a contender's time in units of ours."""
    if contender not in seconds or "transferscore" not in seconds:
        return math.nan
    return statistics.median(scale * a / b for a, b in zip(seconds[contender], seconds["transferscore"]))


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values)) if values else math.nan


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--transferscore", default="../../target/release/transferscore", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="leave the others out")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the models, which are used again if there")
    arguments = parser.parse_args()
    heads = ["network", "ours, ms", "eager / ours", "torch.compile / ours", "onnx-ad / ours", "2 · forward / ours"]
    print("| " + " | ".join([*heads, "error, ours", "error, eager", "derived in, s"]) + " |")
    print("|---" * (len(heads) + 3) + "|")
    rows = {}
    for name in arguments.networks or NETWORKS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.keep or pathlib.Path(temporary)) / NETWORKS[name][0]
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "forward.onnx").exists():
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    pool.apply(export, (name, folder))
            derived = derive(arguments.transferscore.resolve(), folder)
            seconds, errors = measure(name, folder, arguments.threads, arguments.rounds, arguments.only)
        ratios = [ratio(seconds, peer) for peer in ("eager", "compile", "onnx-ad")]
        rows[name] = [*ratios, ratio(seconds, "forward", 2.0)]
        ours = statistics.median(seconds.get("transferscore", [math.nan])) * 1e3
        cells = [name, f"{ours:.1f}", *(f"{value:.2f}" for value in rows[name])]
        cells += [f"{errors.get(contender, math.nan):.1e}" for contender in ("transferscore", "eager")]
        print("| " + " | ".join([*cells, f"{derived:.2f}"]) + " |", flush=True)
    means = []
    for column in range(4):
        relevant = [row[column] for name, row in rows.items() if column < 3 or NETWORKS[name][3]]
        means.append(geometric_mean([value for value in relevant if not math.isnan(value)]))
    print("| geometric mean |  | " + " | ".join(f"{mean:.2f}" for mean in means) + " |  |  |  |")


if __name__ == "__main__":
    main()
