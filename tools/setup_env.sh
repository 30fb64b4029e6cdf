# Creates or reuses .venv at the repository's root with all that mmltm needs; to be sourced by the other scripts.
#
#   PYTHON       interpreter to make the environment with (default: the newest python3 >= 3.10 on the path)
#   MMLTM_TORCH  what pip is to install as torch and torchvision, for example other builds of the same versions
#                (default: torch===2.13.0 torchvision===0.28.0)
#
# Sets: python (the environment's interpreter).
# Exports: MALLOC_MMAP_MAX_ and MALLOC_TRIM_THRESHOLD_, unless they are set.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="$PWD/.venv/bin/python"

# Let glibc keep freed memory for the next allocation. It would map every large array anew and return it when it is freed,
# so that the kernel zeroes a network's activations page by page in every step; where page faults are dear, as in virtual
# machines, that takes longer than the arithmetic.
export MALLOC_MMAP_MAX_=${MALLOC_MMAP_MAX_:-0} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:--1}

fail() {
    echo "error: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python >= 3.10 found${PYTHON:+ at PYTHON=$PYTHON}; install one, or name it by PYTHON=/path/to/python3"
}

setup_env() {
    # `===` compares the version as text: it leaves out local builds such as 2.13.0+cpu, which pip would prefer to the
    # plain version where a local wheel folder offers one, and which have no torchvision of their own kind.
    local torch=${MMLTM_TORCH:-torch===2.13.0 torchvision===0.28.0}
    local stamp=".venv/mmltm-installed" wanted base
    wanted="$torch $(cksum < setup.py)"
    if [ -x "$python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi

    echo "Setting up .venv (a few minutes, about 6 GB with a GPU build of torch) ..."
    if [ ! -x "$python" ]; then
        base=$(find_python)
        "$base" -m venv .venv 2>/dev/null || "$base" -m virtualenv -q .venv 2>/dev/null \
            || fail "$base can create no virtual environment; install its venv module (Debian: apt install python3-venv)"
    fi
    # shellcheck disable=SC2086  # two requirements, or more
    "$python" -m pip install -qq --disable-pip-version-check $torch
    "$python" -m pip install -qq --disable-pip-version-check -e '.[onedl,tests]'
    # By itself: whatever keeps it from being installed, all else works, and its tests skip.
    "$python" -m pip install -qq --disable-pip-version-check -e '.[seg]' \
        || echo "mmsegmentation could not be installed: everything but semantic segmentation works" >&2
    # Two builds of OpenCV come in as dependencies; the one for desktops needs libraries that servers lack.
    if ! "$python" -c 'import cv2' 2>/dev/null; then
        "$python" -m pip uninstall -qq -y opencv-python
        "$python" -m pip install -qq --disable-pip-version-check --force-reinstall --no-deps opencv-python-headless
    fi
    "$python" - <<'PY' || fail "the packages in .venv do not work together; remove .venv and run this again"
import torch, torchvision
torchvision.ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
import mmltm, mmcv, mmdet, mmengine, mmpretrain
print(f'Ready: Python environment .venv with torch {torch.__version__}, mmengine {mmengine.__version__}, '
      f'mmcv {mmcv.__version__}, mmdet {mmdet.__version__}, mmpretrain {mmpretrain.__version__}')
PY
    echo "$wanted" > "$stamp"
}

setup_env
