"""Peak memory and time of one score as the probe set grows: prints a table for docs/cost.md.

    python memory.py --transferscore ../../target/release/transferscore [--samples 1000 10000 100000]

Each count gets a server of its own, so that no cache of an earlier one is measured. Samples are the bundled digits,
drawn with replacement and with noise, 8 x 8 pixels. Needs numpy.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def write_probe(folder, n_samples):
    digits = numpy.load(REPOSITORY / "models/datasets/digits.npz")
    random = numpy.random.default_rng(0)
    chosen = random.integers(0, len(digits["x"]), n_samples)
    noise = random.normal(0, 12, (n_samples, *digits["x"].shape[1:]))
    pixels = numpy.clip(digits["x"][chosen] + noise, 0, 255).astype(numpy.uint8)
    numpy.savez(folder / "probe.npz", x=pixels, y=digits["y"][chosen])


def peak_bytes(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def measure(binary, n_samples, extra):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_probe(folder, n_samples)
        serve = [binary, "serve", "--models", REPOSITORY / "models", "--datasets", folder, "--listen", "127.0.0.1:0"]
        server = subprocess.Popen([*serve, "--sample-limit", str(n_samples)], stdout=subprocess.PIPE, text=True)
        try:
            address = server.stdout.readline().split()[-1]
            idle = peak_bytes(server)
            score = [binary, "score", "digits-50", "digits-reference", "--dataset", "probe", "--server", address, "--json"]
            start = time.perf_counter()
            answer = json.loads(subprocess.run([*score, *extra], check=True, stdout=subprocess.PIPE).stdout)
            seconds = time.perf_counter() - start
            assert answer["provenance"]["nSamples"] == n_samples, answer["provenance"]
            return idle, peak_bytes(server), seconds
        finally:
            server.terminate()
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transferscore", required=True)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("extra", nargs="*", help="further arguments of `transferscore score`, after --")
    arguments = parser.parse_args()
    print("| samples | idle, MiB | peak, MiB | more, bytes a sample | seconds |")
    print("|---|---|---|---|---|")
    for n_samples in arguments.samples:
        idle, peak, seconds = measure(arguments.transferscore, n_samples, arguments.extra)
        growth = (peak - idle) / n_samples
        print(f"| {n_samples} | {idle >> 20} | {peak >> 20} | {growth:.0f} | {seconds:.1f} |", flush=True)


main()
