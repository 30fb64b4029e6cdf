#!/usr/bin/env bash
# Runs the whole test suite, making .venv first where there is none.
#
#   bash tools/run_tests.sh [PYTEST ARGUMENTS]      for example: tests/merging -x

set -euo pipefail
source "$(dirname "$0")/setup_env.sh"

exec "$python" -m pytest "${@:-tests}"
