#!/usr/bin/env bash
# Plants regressions into the runs of continuous integration and writes what they did to plants.csv: half and three
# quarters of the steps, and, with unchanged code, the instructions of other processors. Wants otbench's Python as its
# argument, and the baseline in results/reference/ci. Runs that are recorded in results/local/plants already are not repeated.
set -euo pipefail
cd "$(dirname "$0")/../.."
python="${1:?usage: tests/simulations/plants.sh PYTHON}"
out=results/local/plants
table=tests/simulations/plants.csv

run() {  # folder, seeds, solvers, further options
    local folder="$1" seeds="$2" solvers="$3"
    shift 3
    "$python" bench.py --solvers "$solvers" --task 'gaussian[pool_seed=0]' --dim 2 --preset smoke --seeds "$seeds" \
        --threads 1 --device cpu --jobs 2 --out "$out/$folder" "$@"
}

fewer() {  # folder, steps instead of 30, 40, 60, 100
    run "$1" 0-4 fixedpoint,mm,mmr,mmv1 --steps "$2"
    run "$1" 0-9 not,notweak --steps "$2"
    run "$1" 0-4 mongegap --steps "$3"
    run "$1" 0-4 enot,hjpinn,lightsb,mmb,ncf,swot,w2gn,w2ot --steps "$4"
    run "$1" 0-9 geodesic --steps "$4"
    run "$1" 0-4 cfm,ls,wganqc --steps "$5"
}

fewer half 15 20 30 50
run half 5-19 cfm --steps 50  # five seeds say too little of its scatter
run half 5-9 mmv1 --steps 15
fewer three-quarters 22 30 45 75
# The kernels of torch, MKL and oneDNN for an older processor: SSE2 and SSE4.1 in place of AVX2 and later.
ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE DNNL_MAX_CPU_ISA=SSE41 run other 0-2 \
    cfm,enot,fixedpoint,geodesic,hjpinn,lightsb,ls,mm,mmb,mmr,mmv1,mongegap,ncf,not,notweak,swot,w2gn,w2ot,wganqc

collect() { "$python" tests/simulations/gate_power.py --collect results/reference/ci "$out/$1" "$2"; }
{
    echo "plant,method,metric,seed,log_ratio"
    collect half "half the steps"
    collect three-quarters "three quarters of the steps"
    collect other "other instructions"
} >"$table.new"
mv "$table.new" "$table"
