"""What the measurements need to know of the machine: where CUDA's libraries lie, which versions there are, how busy the
graphics card and the processor are."""

import json
import os
import pathlib
import re
import shutil
import site
import statistics
import subprocess
import sys
import threading
import time

# What ONNX Runtime's CUDA provider is linked with, of CUDA 13.
LINKED = ["libcublas.so.13", "libcublasLt.so.13", "libcudart.so.13", "libcurand.so.10"]
# What it opens by itself when the first operator asks for it, so that nobody misses it before.
OPENED_LATER = ["libcudnn.so.9"]
PROVIDER = "libonnxruntime_providers_cuda.so"
# A reading of the card's load is of the time before it.
LOAD_DELAY = 0.2


class Refusal(Exception):
    """Why nothing can be measured, and what mends it, in one line."""


def package_folders():
    """Where this Python looks for packages."""
    folders = [*sys.path, *site.getsitepackages(), site.getusersitepackages()]
    return list(dict.fromkeys(pathlib.Path(folder) for folder in folders if folder))


def cuda_folders(packages, more=()):
    """Folders with a library of CUDA or cuDNN: those of NVIDIA's Python packages, then those named in `more`."""
    candidates = [folder for package in packages for folder in sorted(package.glob("nvidia/*/lib*"))]
    candidates += [pathlib.Path(folder) for folder in more if folder]
    has_some = lambda folder: any((folder / name).exists() for name in LINKED + OPENED_LATER)
    return list(dict.fromkeys(folder for folder in candidates if has_some(folder)))


def library_path(packages, environment):
    """The value of LD_LIBRARY_PATH with which ONNX Runtime finds CUDA and cuDNN."""
    before = [folder for folder in environment.get("LD_LIBRARY_PATH", "").split(":") if folder]
    found = cuda_folders(packages, ["/usr/local/cuda/lib64"])
    return ":".join(dict.fromkeys([*map(str, found), *before]))


def missing_libraries(provider, path):
    """Libraries that the provider needs and the loader does not find with this LD_LIBRARY_PATH, as far as the system has
    programs that tell."""
    missing = []
    if shutil.which("ldd"):
        environment = {**os.environ, "LD_LIBRARY_PATH": path}
        listed = subprocess.run(["ldd", provider], env=environment, capture_output=True, text=True).stdout
        missing += [line.split()[0] for line in listed.splitlines() if "not found" in line]
    ldconfig = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    known = subprocess.run([ldconfig, "-p"], capture_output=True, text=True).stdout.split() if ldconfig else []
    folders = [pathlib.Path(folder) for folder in path.split(":") if folder]
    is_found = lambda name: name in known or any((folder / name).exists() for folder in folders)
    return missing + [name for name in OPENED_LATER if not is_found(name)]


def onnxruntime_library(path):
    """The library in a folder, or the one that is named."""
    path = pathlib.Path(path)
    if path.is_file():
        return path
    found = sorted(path.glob("libonnxruntime.so*")) + sorted(path.glob("libonnxruntime.*dylib"))
    if not found:
        raise Refusal(f"--onnxruntime {path}: no ONNX Runtime library there; give the folder that `make setup` leaves")
    return found[-1]


def onnxruntime_version(library):
    version = re.search(r"\d+\.\d+\.\d+", library.name)
    return version.group() if version else "of unknown version"


def torch_facts():
    """Versions, and whether PyTorch sees a card; asked in a process of its own, since it takes memory on the card."""
    question = (
        "import json, torch; c = torch.cuda.is_available(); print(json.dumps({'torch': torch.__version__, "
        "'cuda': torch.version.cuda, 'sees_card': c, 'cudnn': torch.backends.cudnn.version() if c else None}))"
    )
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", question], capture_output=True, text=True)
    if answer.returncode != 0:
        said = (answer.stderr.strip().splitlines() or ["no word"])[-1]
        raise Refusal(f"{sys.executable} has no working PyTorch ({said}); name one that has with PYTHON=...")
    return json.loads(answer.stdout.splitlines()[-1])


def card_facts(index):
    """Name and driver of a card, by nvidia-smi."""
    question = ["nvidia-smi", f"--id={index}", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True)
    except FileNotFoundError:
        return "of unknown name", "unknown"
    name, _, driver = answer.stdout.strip().partition(", ")
    return name or "of unknown name", driver or "unknown"


def cudnn_version(number):
    """"9.19.0" of 91900."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}" if number else "unknown"


def processor_seconds(process_id):
    """Processor time of a process over all of its threads; None where the system does not tell."""
    try:
        threads = list(pathlib.Path(f"/proc/{process_id}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except (OSError, ValueError, IndexError):
        pass
    try:
        # Behind the name, which may have blanks; in ticks.
        user, system = pathlib.Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


class CardLoad:
    """How much of the time the card runs kernels, read by nvidia-smi ten times a second in the background."""

    def __init__(self, index, command=None):
        self.readings, self.process, self.thread = [], None, None
        command = command or [
            "nvidia-smi", f"--id={index}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100",
        ]
        try:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.readings.append((time.monotonic(), int(line) / 100))

    def between(self, start, end):
        """The mean load, 0..1, between two times; None where there was no reading."""
        loads = [load for at, load in list(self.readings) if start + LOAD_DELAY <= at <= end]
        return statistics.fmean(loads) if loads else None

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
