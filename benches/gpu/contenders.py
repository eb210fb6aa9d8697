"""Processes that are asked in turn to do a piece of work: transferscore's and PyTorch's.

Both print a line of JSON when they are ready and one for each request, `{"seconds": [...]}` or `{"error": "..."}`.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import machine

HERE = pathlib.Path(__file__).resolve().parent


class Failed(Exception):
    """What a contender said when it could not go on, in one line."""


class Contender:
    """A process of its own that works when asked to."""

    def __init__(self, name, command, environment=None):
        self.name, self.errors = name, tempfile.TemporaryFile("w+")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=pipe, stdout=pipe, stderr=self.errors, text=True, env=environment
        )
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        try:
            found = json.loads(line)
        except ValueError:
            self.stop()
            self.errors.seek(0)
            said = [line for line in self.errors.read().splitlines() if line.strip()]
            raise Failed(f"{self.name}: {(said or ['it ended without a word'])[-1]}") from None
        if "error" in found:
            raise Failed(f"{self.name}: {found['error']}")
        return found

    def work(self, work, times, n_samples):
        """Seconds of each time but the first, which finds memory and caches as others left them."""
        try:
            self.process.stdin.write(f"{work} {times + 1} {n_samples}\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            # It has ended; what it said last is told below.
            pass
        return self.answer()["seconds"][1:]

    def processor_seconds(self):
        return machine.processor_seconds(self.process.pid)

    def stop(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Server:
    """A transferscore server that is asked for rankings through the command line; each has a seed of its own, so that none
    is answered from what is kept."""

    def __init__(self, name, binary, flags, environment, folder, sources, reference):
        self.name, self.binary, self.environment = name, binary, environment
        self.sources, self.reference, self.seed = sources, reference, 0
        self.errors = tempfile.TemporaryFile("w+")
        command = [binary, "serve", "--models", folder / "models", "--datasets", folder / "datasets", "--listen",
                   "127.0.0.1:0", "--session-memory", "65536", "--log", "warn", *flags]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )
        line = self.process.stdout.readline()
        if not line:
            self.fail(self.errors)
        self.address = line.split()[-1]
        self.about = {"readings": {}}

    def fail(self, errors):
        self.stop()
        errors.seek(0)
        said = [line for line in errors.read().splitlines() if line.strip()]
        raise Failed(f"{self.name}: {(said or ['it ended without a word'])[-1]}")

    def work(self, work, times, n_samples):
        """Seconds of each time but the first, as with a contender."""
        seconds = []
        for _ in range(times + 1):
            self.seed += 1
            command = [self.binary, "rank", "--server", self.address, "--reference", self.reference, "--dataset", "pictures",
                       "--max-samples", n_samples, "--measure", "function-matching", "--attack", "pgd",
                       "--no-gradient-matching", "--seed", self.seed, "--json", *self.sources]
            start = time.perf_counter()
            with tempfile.TemporaryFile("w+") as errors:
                asked = subprocess.run(
                    list(map(str, command)), stdout=subprocess.DEVNULL, stderr=errors, env=self.environment
                )
                seconds.append(time.perf_counter() - start)
                if asked.returncode != 0:
                    self.fail(errors)
        return seconds[1:]

    def processor_seconds(self):
        return machine.processor_seconds(self.process.pid)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def ours(binary, flags, environment, folder, model, most, steps):
    """transferscore's own process for a network; `flags` say device and precision."""
    command = [binary, "measure", model, "--dataset", "pictures", "--on-request", "--samples", most, "--steps", steps]
    command += ["--models", folder / "models", "--datasets", folder / "datasets", *flags]
    return Contender("transferscore", command, environment)


def pytorch(name, network, weights, options):
    return Contender(name, [sys.executable, "-W", "ignore", HERE / "peer.py", network, "--weights", *weights, *options])
