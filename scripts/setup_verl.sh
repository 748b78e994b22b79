#!/usr/bin/env bash
# Makes .venv-verl: verl pins its own dependencies. For the tests; to train, a rollout engine
# (vLLM or SGLang) comes beside it, which brings what verl 0.9 does not declare: the web packages
# that are named below.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv-verl/bin/python ] || "${PYTHON:-python3}" -m venv .venv-verl
pip() { .venv-verl/bin/python -m pip --disable-pip-version-check -qq "$@"; }

torch=$(sed -n 's/^torch==//p' constraints-verl.txt)
if .venv-verl/bin/python -c 'import torch' 2>/dev/null; then
    echo "setup: torch is there already"
else
    echo "setup: the CPU build of torch $torch"
    pip install "torch==$torch+cpu" 2>/dev/null ||
        pip install "torch==$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
fi
echo "setup: verl, gdro, and what they are tested with (constraints-verl.txt)"
pip install -c constraints-verl.txt -e '.[verl]' cachetools uvicorn fastapi pytest hypothesis pyright
