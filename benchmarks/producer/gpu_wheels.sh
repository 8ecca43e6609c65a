#!/usr/bin/env bash
# Wheels of what a machine with torch may lack, for gpu_run.sh: nothing is fetched there.
#
#     bash benchmarks/producer/gpu_wheels.sh                 # build/wheels, for Python 3.12, x86-64
#     bash benchmarks/producer/gpu_wheels.sh zarr pyproj     # these alone
#
# The stages of gpu_run.sh need none of them. With beartype the tests check annotations too; with the
# others more of the suite runs. Versions are those of constraints.txt, and no dependency comes along:
# torch and the machine's other packages stay what they are. GDAL (rasterio) alone is 37 MiB, and is
# fetched only by name.
set -eu -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
wheels=${WHEELS:-$root/build/wheels}
most_mib=${MOST_MIB:-64}
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    names=(beartype pydantic pydantic-core annotated-types typing-inspection typing-extensions
        zarr donfig numcodecs google-crc32c obstore pyproj shapely geopandas affine dask)
fi

rm -rf "$wheels"
mkdir -p "$wheels"
platforms=()
for glibc in 17 24 27 28 31 34; do
    platforms+=(--platform "manylinux_2_${glibc}_x86_64")
done
for name in "${names[@]}"; do
    pinned=$(grep -i "^${name//-/[-_]}==" "$root/constraints.txt" || echo "$name")
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 \
        --dest "$wheels" "$pinned"
done

# What is carried together: the tree, the data of gpu_data, and these wheels.
mib() { du -scm --apparent-size "$@" 2> /dev/null | tail -1 | cut -f1; }
tree=$(cd "$root" && git ls-files -z | xargs -0 du -cb | tail -1 | cut -f1)
data=0
[ -d "$root/build/carried" ] && data=$(mib "$root/build/carried")
total=$((tree / 1048576 + 1 + data + $(mib "$wheels")))
echo "tree $((tree / 1048576 + 1)), data $data, wheels $(mib "$wheels"), together $total MiB"
if [ "$total" -gt "$most_mib" ]; then
    echo "more than $most_mib MiB: name fewer packages, or leave out the data" >&2
    exit 1
fi
