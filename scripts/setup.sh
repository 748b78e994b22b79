#!/usr/bin/env bash
# Makes .venv with gdro and every extra but verl (which pins its own dependencies).
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }

torch=$(sed -n 's/^torch==//p' constraints.txt)
if .venv/bin/python -c 'import torch' 2>/dev/null; then
    echo "setup: torch is there already"
elif nvidia-smi >/dev/null 2>&1; then
    echo "setup: a GPU is there: torch $torch with CUDA (several GB)"
    pip install -c constraints.txt torch
else
    echo "setup: no GPU is there: the CPU build of torch $torch"
    pip install "torch==$torch+cpu" 2>/dev/null ||
        pip install "torch==$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
fi
echo "setup: gdro and what it is tested with (constraints.txt)"
pip install -c constraints.txt -e '.[trl,report,eval,dev]'
