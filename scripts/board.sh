#!/bin/sh
# Measures rasure on the machine that it is run on. Stands alone: a phone or board needs this file, the two programs
# and the model, and no other tool than sh, sed, grep and uname have beside them.
set -eu

usage() {
    cat << 'END'
Usage: scripts/board.sh [--programs FOLDER] [--model FILE] [--out FILE] [--quick]

Times every kernel and the model, at every instruction set level that this CPU has, and writes the figures
with the facts of the machine into one JSON file. For an Arm board or phone (Linux, or Termux on Android).

  --programs FOLDER  `rasure` and `bench_kernels` are here; else they are built beside this script, with cmake
  --model FILE       GGUF file, by default what `rasure` finds itself
  --out FILE         by default rasure-NAME.json, NAME being the machine's
  --quick            fewer repetitions

Programs for a board, built on a Debian machine:  cmake --preset aarch64 && cmake --build build/aarch64
They are static: copy build/aarch64/examples/cli/rasure, build/aarch64/bench/bench_kernels, this script and the
model, and run  sh board.sh --programs . --model FILE.  On Termux keep them in its home folder: Android runs no
program from shared storage. Let nothing else run meanwhile, and the device be cool and on its charger.
END
}

die() {
    echo "board.sh: $*" >&2
    exit 1
}

programs='' model='' rounds=21 repeat=5
out=rasure-$(uname -n | sed 's/[^A-Za-z0-9._-]/-/g').json
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit ;;
        --quick) rounds=5 repeat=2 ;;
        --programs | --model | --out)
            [ $# -gt 1 ] || die "$1 needs a value; see --help"
            case $1 in
                --programs) programs=$2 ;;
                --model) model=$2 ;;
                --out) out=$2 ;;
            esac
            shift
            ;;
        *) die "unknown argument '$1'; see --help" ;;
    esac
    shift
done

if [ -n "$programs" ]; then
    rasure=$programs/rasure kernels=$programs/bench_kernels
else
    repo=$(cd "$(dirname "$0")/.." && pwd)
    echo "building" >&2
    (cd "$repo" && cmake --preset release && cmake --build build/release --target rasure_cli bench_kernels) >&2 ||
        die "cannot build here; see --programs in --help, or run scripts/setup.sh first"
    rasure=$repo/build/release/examples/cli/rasure kernels=$repo/build/release/bench/bench_kernels
fi
[ -x "$rasure" ] || die "$rasure is no program"
[ -x "$kernels" ] || die "$kernels is no program"

# A JSON string of what comes in, lines joined.
quoted() {
    printf '"%s"' "$(sed 's/[\\"]/\\&/g; s/[[:cntrl:]]/ /g' | tr '\n' ';' | sed 's/;$//')"
}

read_all() { # FILE...
    for file; do
        if [ -r "$file" ]; then cat "$file" 2> /dev/null || true; fi
    done
}

machine() {
    cpu=/sys/devices/system/cpu
    printf '{\n    "system": %s' "$(uname -srm | quoted)"
    printf ',\n    "model": %s' "$(read_all /proc/device-tree/model | tr '\0' '\n' | quoted)"
    if command -v getprop > /dev/null; then
        printf ',\n    "phone": %s' "$({ getprop ro.product.model && getprop ro.soc.model; } 2> /dev/null | quoted)"
    fi
    printf ',\n    "cpu": %s' "$(grep -E '^(model name|Hardware|CPU (implementer|part))' /proc/cpuinfo |
        sed 's/[[:space:]]*:/:/' | sort | uniq -c | sed 's/^ *//' | quoted)"
    printf ',\n    "features": %s' "$(sed -n '/^\(Features\|flags\)[[:space:]]*:/{s/^[^:]*: *//p;q;}' /proc/cpuinfo | quoted)"
    printf ',\n    "processors": %s' "$(grep -c '^processor' /proc/cpuinfo)"
    printf ',\n    "max_khz": %s' "$(read_all $cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq | quoted)"
    printf ',\n    "governors": %s' "$(read_all $cpu/cpu[0-9]*/cpufreq/scaling_governor | quoted)"
    printf ',\n    "memory_kb": %s' "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
    printf ',\n    "load": %s\n  }' "$(cut -d ' ' -f 1 /proc/loadavg 2> /dev/null || echo null)"
}

threads=$(grep -c '^processor' /proc/cpuinfo)
set -- --repeat "$repeat" --json
if [ -n "$model" ]; then set -- --model "$model" "$@"; fi
new=$out.new
{
    printf '{\n  "machine": '
    machine
    printf ',\n  "levels": {'
} > "$new"
separator=''
for isa in neon dotprod i8mm avx2 avxvnni avx512vnni amx; do
    # Refused where the CPU does not have the level.
    kernel_figures=$("$kernels" --isa $isa --rounds $rounds --json 2> /dev/null) || continue
    echo "$isa" >&2
    one=$("$rasure" bench --isa $isa --threads 1 "$@") || die "rasure bench failed at level $isa"
    all=$("$rasure" bench --isa $isa --threads "$threads" "$@") || die "rasure bench failed at level $isa"
    printf '%s\n  "%s": {\n  "kernels": %s,\n  "model": [%s,\n%s]}' "$separator" $isa "$kernel_figures" "$one" "$all" >> "$new"
    separator=,
done
printf '}\n}\n' >> "$new"
mv "$new" "$out"
echo "$out"
