#!/bin/sh
# Makes the Python environment (.venv at the repository's root) if it is missing, then all of tests/golden, then checks it.
set -eu
cd "$(dirname "$0")/../.."
if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv
fi
nice .venv/bin/pip install --quiet --requirement tools/golden/requirements.txt
for script in shipped models ops check; do
    nice .venv/bin/python -B "tools/golden/$script.py"
done
