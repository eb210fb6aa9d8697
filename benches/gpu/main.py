"""Measures transferscore on a graphics card against PyTorch: `gpu.sh` beside this folder says how it is called.

Three parts. `agreement`: the same scores and rankings on the processor and on the card, number by number. `speed`: input
gradients and ten steps of projected gradient descent of three networks. `ranking`: five ResNet-50 for a sixth. Contenders
are processes of their own that are asked in turn, round after round; what counts is the median of the ratios of times
within a round. The report is written anew after each measurement, so that what was measured outlasts an interruption.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import agreement
import contenders
import machine
import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PARTS = ["agreement", "speed", "ranking"]
REAL_NETWORKS = ["ResNet-50", "ViT-B/16", "ConvNeXt-tiny"]
RANKED_NETWORK, N_SOURCES = "ResNet-50", 5
STEPS = 10
# What a ranking takes at least.
FEWEST_RANKED = 8
SMALL = "small"
MODELS = ROOT / "models"
ARCHITECTURES = MODELS / "experiments" / "architectures"


def calls(folder):
    """Name and arguments of each call that is made on both devices; `folder` has a dataset of noise, 32 pixels high."""
    digits = ["--models", MODELS, "--datasets", MODELS / "datasets", "--dataset", "digits"]
    noise = ["--models", ARCHITECTURES, "--datasets", folder / "datasets", "--dataset", "noise"]
    sources = [f"digits-{share}" for share in (0, 25, 50, 75, 100)]
    others = [f"{name}-seed-0" for name in ("resnet-50", "mobilenet-v2", "vit", "alexnet")]
    return {
        "score, virtual attack": ["score", "digits-50", "digits-reference", *digits],
        "score, PGD": ["score", "digits-50", "digits-reference", *digits, "--attack", "pgd"],
        "ranking of five, virtual attack": ["rank", "--reference", "digits-reference", *sources, *digits],
        "ranking of five, FGSM": ["rank", "--reference", "digits-reference", *sources, *digits, "--attack", "fgsm"],
        "ranking of architectures, virtual attack": ["rank", "--reference", "resnet-18-seed-0", *others, *noise],
    }


class Run:
    """What the command line asked for, what was found on the machine, and what was measured so far."""

    def __init__(self, arguments, binary, environment, facts, scratch):
        self.arguments, self.binary, self.environment, self.facts = arguments, binary, environment, facts
        self.scratch, self.is_card = scratch, arguments.device != "cpu"
        self.card = int(arguments.device.partition(":")[2] or 0) if self.is_card else None
        self.agreed, self.measured, self.problems = [], [], []

    def flags(self, device, precision="float32"):
        """What tells transferscore where and in what to compute."""
        # On the processor everybody computes on one thread, as the machine may be busy otherwise.
        flags = ["--device", device] if self.is_card else ["--threads", "1"]
        if device != "cpu" and precision != "float32":
            flags += ["--precision", precision]
        if device != "cpu" and self.arguments.channels_last:
            flags += ["--channels-last"]
        return flags

    def problem(self, text):
        self.problems.append(text)
        print(f"# {text}", file=sys.stderr, flush=True)

    def report(self):
        """Writes the report and the numbers that it is made of."""
        text = [self.facts["line"], ""]
        if self.agreed:
            text += [f"Scores, relative to the processor's; the tolerance of float32 is {agreement.TOLERANCE:.0e}:", ""]
            text += [tables.agreement(self.agreed), ""]
        if self.measured:
            text += ["Ratios of times are above 1 where transferscore is faster: the median over rounds [least, most].", ""]
            text += [tables.speeds(self.measured), "", tables.loads(self.measured), ""]
        text += [f"Left out: {problem}" for problem in self.problems]
        text = "\n".join(text).rstrip() + "\n"
        if self.arguments.output:
            self.arguments.output.write_text(text)
            raw = {"facts": self.facts, "agreement": self.agreed, "measured": self.measured, "problems": self.problems}
            self.arguments.output.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n")
        return text


def compare(run):
    """The same calls on the processor and on the device, in each setting."""
    import networks

    noise = networks.pictures(32, 64)
    write_pictures(run.scratch, "noise", noise)
    settings = {"float32": []}
    if run.is_card:
        settings |= {"TF32": ["--precision", "tf32"], "float16": ["--precision", "float16"]}
        settings |= {"float32, channels last": ["--channels-last"]}
    made = calls(run.scratch)
    for name, call in list(made.items())[:2] if run.arguments.quick else made.items():
        reference = answer(run, call + run.flags("cpu"))
        for setting, flags in settings.items():
            device = ["--device", run.arguments.device] if run.is_card else run.flags("cpu")
            given = answer(run, call + device + flags)
            # A call that fails on either device agrees with nothing.
            both = reference is not None and given is not None
            found = agreement.differences(reference, given) if both else {"the answer": math.inf}
            measure, largest = agreement.worst(found)
            tolerance = agreement.TOLERANCE if setting == "float32" else None
            run.agreed.append(
                {"call": name, "setting": setting, "measure": measure, "error": largest, "tolerance": tolerance,
                 "errors": found}
            )
        run.report()


def answer(run, call):
    command = [str(word) for word in (run.binary, *call, "--json")]
    done = subprocess.run(command, env=run.environment, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no word"]
        run.problem(f"{' '.join(map(str, call[:3]))} ...: {said[-1]}")
        return None
    return done.stdout


def write_pictures(folder, name, pictures):
    import networks
    import onnx_file

    (folder / "datasets").mkdir(exist_ok=True)
    content = networks.content(pictures)
    onnx_file.write_npz(folder / "datasets" / f"{name}.npz", "x", pictures.shape, content)


def speed(run):
    """Input gradients and attacks of each network."""
    import networks

    most = max(run.arguments.batches)
    for network in run.arguments.networks:
        model = network.lower().replace("/", "-")
        folder = run.scratch / model
        (folder / "models").mkdir(parents=True, exist_ok=True)
        weights = networks.prepare(network, 0, folder, model)
        write_pictures(folder, "pictures", networks.pictures(networks.NETWORKS[network][1], most))
        for precision in run.arguments.precisions:
            flags = run.flags(run.arguments.device, precision)
            steps = run.arguments.steps
            begin = {
                "transferscore": lambda: contenders.ours(
                    run.binary, flags, run.environment, folder, model, most, steps
                )
            }
            begin |= peers(run, network, [weights], precision, ["--samples", most, "--first", min(run.arguments.batches)])
            with_processes(run, begin, lambda live: take_turns(run, live, network, precision, run.arguments.batches))


def peers(run, network, weights, precision, more):
    """A function that starts each of PyTorch's contenders."""
    options = ["--device", run.arguments.device, "--precision", precision, "--steps", run.arguments.steps, *more]
    options += ["--channels-last"] if run.arguments.channels_last else []
    begin = {"eager": lambda: contenders.pytorch("eager", network, weights, options)}
    if not run.arguments.no_compile:
        begin["compile"] = lambda: contenders.pytorch("compile", network, weights, [*options, "--compile"])
    return begin


def with_processes(run, begin, work):
    """Starts contenders one after the other, as a first run takes the whole machine; leaves out those that fail."""
    live = {}
    try:
        for name, start in begin.items():
            try:
                live[name] = start()
            except contenders.Failed as failed:
                run.problem(str(failed))
        if live:
            work(live)
    finally:
        for contender in live.values():
            contender.stop()


def take_turns(run, live, network, precision, batches, works=("gradient", "attack")):
    """Asks the contenders in turn, round after round, for each work and each number of pictures."""
    reference = live.get("eager") or next(iter(live.values()))
    errors = {
        name: {
            work: tables.readings_error(contender.about["readings"].get(work), reference.about["readings"].get(work, []))
            for work in works
            if contender is not reference and work != "ranking"
        }
        for name, contender in live.items()
    }
    load = machine.CardLoad(run.card) if run.is_card else None
    for batch in batches:
        for work in works:
            able, times = {}, {}
            for name, contender in live.items():
                try:
                    once = contender.work(work, 1, batch)[0]
                    able[name], times[name] = contender, max(1, min(1000, math.ceil(run.arguments.seconds / once)))
                except contenders.Failed as failed:
                    run.problem(f"{network}, {work}, {precision}, {batch} pictures: {failed}")
            measured = {
                "network": network, "work": work, "precision": precision, "samples": batch,
                "tile": live["transferscore"].about.get("tile") if "transferscore" in live else None,
                "steps": run.arguments.steps if work == "attack" else 1, "errors": errors,
                **rounds(run, able, times, work, batch, load),
            }
            run.measured.append(measured)
            run.report()
            print(tables.speeds([measured]).splitlines()[-1], file=sys.stderr, flush=True)
    if load:
        load.stop()


def rounds(run, able, times, work, batch, load):
    """For each contender: the median of its times in each round, how busy the card was, processor seconds a time."""
    found = {kind: {name: [] for name in able} for kind in ("seconds", "load", "processor")}
    order = list(able)
    for _ in range(run.arguments.rounds):
        seconds = {}
        for name in order:
            contender, before, start = able[name], able[name].processor_seconds(), time.monotonic()
            try:
                seconds[name] = statistics.median(contender.work(work, times[name], batch))
            except contenders.Failed as failed:
                run.problem(f"{work}, {batch} pictures: {failed}")
                continue
            after, end = contender.processor_seconds(), time.monotonic()
            if before is not None and after is not None:
                found["processor"][name].append((after - before) / (times[name] + 1))
            busy = load.between(start, end) if load else None
            if busy is not None:
                found["load"][name].append(busy)
        # Who failed takes no further part, and a round that it broke off counts for nobody.
        if len(seconds) < len(order):
            order = [name for name in order if name in seconds]
            continue
        for name in order:
            found["seconds"][name].append(seconds[name])
        # So that nobody always comes after the same.
        order = order[1:] + order[:1]
    middle = lambda lists: {name: statistics.median(values) for name, values in lists.items() if values}
    return {
        "seconds": {name: values for name, values in found["seconds"].items() if values and name in order},
        "load": middle(found["load"]), "processor": middle(found["processor"]),
    }


def rank(run):
    """A ranking of five sources by PGD, all pictures at once for PyTorch."""
    import networks

    network = SMALL if SMALL in run.arguments.networks else RANKED_NETWORK
    folder, n_samples = run.scratch / "ranking", max(FEWEST_RANKED, *run.arguments.batches)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    names = [*(f"source-{index}" for index in range(N_SOURCES)), "reference"]
    weights = [networks.prepare(network, seed, folder, name) for seed, name in enumerate(names)]
    write_pictures(folder, "pictures", networks.pictures(networks.NETWORKS[network][1], n_samples))
    for precision in run.arguments.precisions:
        flags = run.flags(run.arguments.device, precision)
        begin = {
            "transferscore": lambda: contenders.Server(
                "transferscore", run.binary, flags, run.environment, folder, names[:-1], names[-1]
            )
        }
        more = ["--samples", n_samples, "--first", n_samples, "--works", "ranking"]
        begin |= peers(run, network, weights, precision, more)
        label = f"{network}, {N_SOURCES} sources"
        with_processes(run, begin, lambda live: take_turns(run, live, label, precision, [n_samples], ["ranking"]))


def found_binary(arguments):
    """The program, built where none was named."""
    if arguments.transferscore:
        if not os.access(arguments.transferscore, os.X_OK) or arguments.transferscore.is_dir():
            raise machine.Refusal(f"--transferscore {arguments.transferscore}: no program there")
        return arguments.transferscore.resolve()
    if not shutil.which("cargo"):
        raise machine.Refusal("there is no cargo to build transferscore with; give a program with --transferscore PATH")
    made("cargo", "build", "--locked", "--release")
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release", "transferscore").resolve()


def found_library(arguments):
    """ONNX Runtime's library, set up where none was named."""
    if arguments.onnxruntime is None:
        made("make", "setup", f"DEVICE={'cpu' if arguments.device == 'cpu' else 'cuda'}")
    return machine.onnxruntime_library(arguments.onnxruntime or ROOT / ".onnxruntime").resolve()


def made(*command):
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr)
    except OSError as error:
        raise machine.Refusal(f"`{' '.join(command)}` failed: {error}") from None
    if done.returncode != 0:
        raise machine.Refusal(f"`{' '.join(command)}` failed; see above")


def looked_over(arguments):
    """The program, the environment that it runs in, and the facts that stand above the report."""
    facts = machine.torch_facts()
    is_card = arguments.device != "cpu"
    if is_card and not facts["sees_card"]:
        raise machine.Refusal("PyTorch sees no NVIDIA graphics card here; try the measurements with --device cpu")
    binary, library = found_binary(arguments), found_library(arguments)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRANSFERSCORE_")}
    environment["ORT_DYLIB_PATH"] = str(library)
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip() or "transferscore"
    place = "the processor"
    if is_card:
        provider = library.with_name(machine.PROVIDER)
        if not provider.exists():
            raise machine.Refusal(f"{provider.parent} has no {provider.name}; fill it with `make setup DEVICE=cuda`")
        environment["LD_LIBRARY_PATH"] = machine.library_path(machine.package_folders(), os.environ)
        missing = machine.missing_libraries(provider, environment["LD_LIBRARY_PATH"])
        if missing:
            raise machine.Refusal(f"driver, CUDA 13 and cuDNN 9 are not complete: {', '.join(missing)} not beside PyTorch, "
                                  "in /usr/local/cuda or on LD_LIBRARY_PATH")
        help_text = subprocess.run([binary, "measure", "--help"], capture_output=True, text=True).stdout
        if "--device" not in help_text:
            raise machine.Refusal(f"{binary} knows no --device; build it from these sources")
        name, driver = machine.card_facts(int(arguments.device.partition(":")[2] or 0))
        place = f"{name}, driver {driver}, CUDA {facts['cuda']}, cuDNN {machine.cudnn_version(facts['cudnn'])}"
    runtime = f"ONNX Runtime {machine.onnxruntime_version(library)}"
    facts["line"] = f"{place}, {runtime}, PyTorch {facts['torch']}, {version}, {os.cpu_count()} processors"
    return binary, environment, facts


def numbers(text):
    """"64,128" as a list; all at least 1."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def words(known):
    """A list of words, separated by commas, each of them known."""

    def read(text):
        found = text.split(",")
        for word in found:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word} is none of {', '.join(known)}")
        return found

    return read


def device(text):
    if text == "cpu" or text == "cuda" or (text.startswith("cuda:") and text[5:].isdigit()):
        return text
    raise argparse.ArgumentTypeError(f"{text} is no device; give cpu, cuda or cuda:N")


def read_arguments(given):
    parser = argparse.ArgumentParser(prog="gpu.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--transferscore", type=pathlib.Path, metavar="PATH", help="a release binary; else cargo builds it")
    parser.add_argument("--onnxruntime", type=pathlib.Path, metavar="FOLDER", help="its library; else `make setup`")
    parser.add_argument("--device", type=device, default="cuda:0", help="cuda:0, another card, or cpu to try this out")
    parser.add_argument("--parts", type=words(PARTS), default=PARTS, help=f"of {', '.join(PARTS)}, separated by commas")
    parser.add_argument("--networks", type=words([*REAL_NETWORKS, SMALL]), help=f"of {', '.join(REAL_NETWORKS)} and {SMALL}")
    parser.add_argument("--precisions", type=words(["float32", "tf32", "float16"]), help="[default: float32,tf32]")
    parser.add_argument("--batches", type=numbers, metavar="N,N", help="numbers of pictures [default: 64,128,256]")
    parser.add_argument("--rounds", type=int, help="[default: 5]")
    parser.add_argument("--seconds", type=float, help="that a contender works in each of its turns [default: 1]")
    parser.add_argument("--steps", type=int, default=STEPS, help="of projected gradient descent")
    parser.add_argument("--channels-last", action="store_true", help="NHWC convolutions, PyTorch's too")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes to begin")
    parser.add_argument("--quick", action="store_true", help="the least of all that is not said")
    parser.add_argument("--scratch", type=pathlib.Path, metavar="FOLDER", help="for networks and pictures; kept")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="for the report; its numbers go to FILE.json")
    arguments = parser.parse_args(given)
    is_card = arguments.device != "cpu"
    least = {"networks": [SMALL], "batches": [8], "rounds": 2, "seconds": 0.02, "precisions": ["float32"]}
    if is_card:
        least = {"networks": REAL_NETWORKS, "batches": [64], "rounds": 3, "seconds": 0.3, "precisions": ["float32", "tf32"]}
    usual = {"networks": REAL_NETWORKS, "batches": [64, 128, 256], "rounds": 5, "seconds": 1.0,
             "precisions": ["float32", "tf32"] if is_card else ["float32"]}
    for name, value in (least if arguments.quick else usual).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for name in ("rounds", "steps", "seconds"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name} must be above 0")
    if arguments.precisions != ["float32"] and not is_card:
        parser.error("on the processor there is float32 alone")
    if arguments.output and arguments.output.suffix == ".json":
        parser.error("--output is for the report; its numbers go beside it with the suffix .json")
    return arguments


def main(given):
    arguments = read_arguments(given)
    try:
        binary, environment, facts = looked_over(arguments)
    except machine.Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 2
    print(facts["line"], flush=True)
    with tempfile.TemporaryDirectory(prefix="transferscore-gpu-") as temporary:
        scratch = (arguments.scratch or pathlib.Path(temporary)).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        run = Run(arguments, binary, environment, facts, scratch)
        for part in arguments.parts:
            {"agreement": compare, "speed": speed, "ranking": rank}[part](run)
        print(run.report().partition("\n")[2])
    differs = any(each["tolerance"] is not None and each["error"] > each["tolerance"] for each in run.agreed)
    return 1 if differs or not (run.agreed or run.measured) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
