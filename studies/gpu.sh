#!/bin/sh
# Measures a GPU in at most eight minutes, with torch and this checkout alone: no ROS, no network, no build.
#
#     OUT=out/gpu sh studies/gpu.sh                        # the published size on a GPU
#     OUT=out/dry sh studies/gpu.sh --device cpu --tiny    # the same parts with the demo checkpoint
#
# Each part has a time limit and writes its result as it ends. A second run repeats only parts that have
# no result; $OUT/gpu.md and $OUT/gpu.json hold everything. Parts whose wheels are missing are skipped
# with a line that names them.
set -u

device=cuda model=7b rows=prefill,chunk,image,surprise,encode,decode,end-to-end repeats=''
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=$2; shift ;;
        --tiny) model=demo rows=prefill,chunk repeats='--repeats 1 --threads 1' ;;
        *) echo "usage: OUT=DIR sh studies/gpu.sh [--device cuda|cpu] [--tiny]" >&2; exit 2 ;;
    esac
    shift
done
here=$(cd "$(dirname "$0")/.." && pwd)
OUT=${OUT:-out/gpu}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) && cd "$here" || exit 2
python=${PYTHON:-python3}
export PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1
failed=0

part() {  # name, time limit [s], packages, command …
    name=$1 limit=$2 needs=$3
    shift 3
    if [ -e "$OUT/$name.txt" ]; then
        echo "$name: kept from an earlier run"
        return
    fi
    rm -f "$OUT/$name.skipped" "$OUT/$name.failed"
    # shellcheck disable=SC2086 # a list of names
    missing=$("$python" studies/gpu.py missing $needs)
    if [ -n "$missing" ]; then
        echo "not installed: $missing" | tee "$OUT/$name.skipped"
        return
    fi
    echo "$name, at most $limit s"
    timeout -k 5 "$limit" "$@" >"$OUT/$name.partial" 2>&1
    status=$?
    if [ "$status" = 0 ]; then
        mv "$OUT/$name.partial" "$OUT/$name.txt"
        return
    fi
    failed=1
    [ "$status" = 124 ] && echo "stopped after $limit s" >>"$OUT/$name.partial"
    mv "$OUT/$name.partial" "$OUT/$name.failed"
    echo "$name: status $status, see $OUT/$name.failed" >&2
}

base='torch numpy yaml PIL safetensors tokenizers'
bench="$python -m worldvla_ros.cli bench --model $model --device $device --only $rows $repeats"

part device 40 "$base" "$python" studies/gpu.py device "$device" "$OUT/device.json"
# shellcheck disable=SC2046 # a list of files
part tests 120 "$base pytest hypothesis" \
    "$python" -m pytest -q -rs -p no:cacheprovider -m gpu $(grep -rl --include='test_*.py' 'mark\.gpu' test)
# shellcheck disable=SC2086 # a command with its arguments
part bench_bfloat16 150 "$base tqdm" $bench --dtype bfloat16 --json "$OUT/bench_bfloat16.json"
# shellcheck disable=SC2086
part bench_int8 110 "$base tqdm torchao" $bench --dtype int8 --json "$OUT/bench_int8.json"
part profile 60 "$base" "$python" studies/gpu.py profile "$device" "$model" "$OUT/profile.json"

"$python" studies/gpu.py report "$OUT" && cat "$OUT/gpu.md"
exit $failed
