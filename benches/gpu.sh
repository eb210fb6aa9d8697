#!/usr/bin/env bash
# Measures transferscore on an NVIDIA graphics card against PyTorch, and checks that scores there are those of the processor:
#
#     benches/gpu.sh [--transferscore PATH] [--onnxruntime FOLDER] [--device cuda:0] [--quick] [--output FILE] ...
#
# Needs Linux, a card with its driver, and a Python with PyTorch made for CUDA 13: python3, or the one that PYTHON names.
# CUDA and cuDNN are those beside PyTorch. Without --transferscore it needs cargo, without --onnxruntime the package
# registries.
# --help lists what else can be said; docs/gpu.md tells what is measured, and how.
#
# Exit codes: 0 done, 1 scores differ or nothing could be measured, 2 it cannot begin here, with the reason in a line.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
if ! command -v "$python" > /dev/null; then
    echo "error: there is no $python; name a Python that has PyTorch with PYTHON=..." >&2
    exit 2
fi
exec "$python" "$here/gpu/main.py" "$@"
