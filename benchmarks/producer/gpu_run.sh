#!/usr/bin/env bash
# Everything that only a GPU can show, in one call of at most eight minutes: docs/gpu.md.
#
#     bash benchmarks/producer/gpu_run.sh results                      # one H100 or H200
#     bash benchmarks/producer/gpu_run.sh results --device cpu --size tiny     # to see that it runs
#
# unigeo need not be installed. PYTHON names the interpreter that has torch (python3). Wheels in the
# folder WHEELS (build/wheels) are unpacked behind the packages of the machine, which thus keep theirs.
set -u -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
wheels=${WHEELS:-$root/build/wheels}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/unigeo"
for part in client producer schemas; do
    ln -s "$root/$part" "$work/unigeo/$part"
done
if compgen -G "$wheels/*.whl" > /dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --target "$work/site" "$wheels"/*.whl &&
        echo "import sys; sys.path.append('$work/site')" > "$work/sitecustomize.py"
fi
export PYTHONPATH="$work:$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
"$python" -m benchmarks.producer.gpu_run --work "$work" "$@"
