#!/usr/bin/env bash
# Sets up, builds and tests. Its last line is the sum: "N passed, N failed".
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat << 'END'
Usage: scripts/test.sh [--offline] [--quick] [--native] [--training] [--with-gemma]

Runs scripts/setup.sh, checks the format of the C files (with --quick: where clang-format is), builds a
Release tree (build/release) and one with AddressSanitizer and UndefinedBehaviorSanitizer (build/asan),
and runs every test in both; where qemu is installed, those of the kernels once more on emulated x86 CPUs
without AVX-512 and without AVX2. Builds a Release tree with clang (build/clang) and runs the tests of
the library. Then builds trees for 64-bit and 32-bit Arm (build/aarch64, build/armv7; build/aarch64-clang)
and runs their tests under qemu, once for each instruction set level, with the default model over fewer
positions. Tests print measured figures on lines that start with '# figure:'.

  --offline     use no network
  --quick       Release tree only
  --native      no Arm trees
  --training    the tests of training/, too: brings PyTorch from PyPI into a virtual environment (5 GB);
                they are not counted in the sum, but for failing
  --with-gemma  fetch Gemma 3 270M too (253 MB, Gemma terms) and run the tests that need it
END
}

setup=() native=(release asan clang) arm=(aarch64 armv7 aarch64-clang) training=no offline=no
for argument; do
    case $argument in
        --offline) setup+=(--offline) offline=yes ;;
        --with-gemma)
            setup+=(--with-gemma)
            export RASURE_GEMMA=$cache/models/gemma-3-270m-Q4_K_M.gguf
            ;;
        --quick) native=(release) arm=() ;;
        --native) arm=() ;;
        --training) training=yes ;;
        -h | --help) usage && exit ;;
        *) die "unknown argument '$argument'; see --help" ;;
    esac
done
[ ${#arm[@]} = 0 ] || setup+=(--cross)
[ ${#native[@]} = 1 ] || setup+=(--clang)

"$repo/scripts/setup.sh" "${setup[@]}" || {
    echo "0 passed, 1 failed"
    exit 1
}
cd "$repo"
mkdir -p build

# What fails outside the tests counts as one failure each.
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

if command -v clang-format > /dev/null; then
    mapfile -t files < <(find include runtime kernels ports examples tests bench -name '*.[ch]' 2> /dev/null | sort)
    clang-format --dry-run -Werror "${files[@]}" || fail "clang-format wants another format, see above"
fi

build() { # TREE
    local log=build/$1.log
    echo "$1: building"
    if ! { cmake --preset "$1" && cmake --build "build/$1" --parallel "$(nproc)"; } > "$log" 2>&1; then
        tail -n 60 "$log"
        fail "$1 does not build; the whole log is $log"
        return 1
    fi
    grep -A 4 'warning:' "$log" || true
}

reports=()
run() { # TREE NAME CTEST-ARGUMENT...
    local log=build/$2.log report=$repo/build/$2.xml
    rm -f "$report"
    echo "$2: testing"
    # The default cuts a test's output to 1 kB, and the figures with it.
    ctest --test-dir "build/$1" --parallel "$(nproc)" --no-tests=error --output-junit "$report" \
        --test-output-size-passed 1000000 --test-output-size-failed 1000000 "${@:3}" > "$log" 2>&1 || true
    if [ -s "$report" ]; then reports+=("$report"); else
        tail -n 20 "$log"
        fail "$2 has no test results"
    fi
}

# CPUs of qemu, each with the level that it must be found to have. No test may make do with less.
emulate() { # TREE {CPU LEVEL}...
    local tree=$1
    shift
    while (($# > 0)); do
        # The tool's own tests start it without qemu.
        QEMU_CPU=$1 RASURE_ISA=$2 RS_TEST_ISA=$2 RS_GOLDEN_POSITIONS=64 run "$tree" "$tree-$1" -E '^(cli|quality)\.'
        shift 2
    done
}

# What another compiler cannot change is left out, and qemu, which reads beside the operand of a scalar multiply-add.
for tree in "${native[@]}"; do
    build "$tree" || continue
    case $tree in
        clang) run clang clang -E '^(qemu-|golden\.model_|docs|cli|quality|package)' ;;
        *) run "$tree" "$tree" ;;
    esac
done
for tree in "${arm[@]}"; do
    build "$tree" || continue
    case $tree in
        aarch64) emulate aarch64 cortex-a53 neon cortex-a76 dotprod max i8mm ;;
        armv7)
            emulate armv7 cortex-a7 neon
            # A CPU whose NEON lacks the fused multiply-add that the level takes for granted.
            QEMU_CPU=cortex-a9 RS_TEST_ISA=ref run armv7 armv7-cortex-a9 -R '^kernels\.kernels$'
            ;;
        aarch64-clang) emulate aarch64-clang max i8mm ;;
    esac
done

test_training() {
    local venv=$cache/training-venv log=build/training.log
    echo "training: testing"
    if ! [ -x "$venv/bin/pytest" ]; then
        [ "$offline" = no ] || { echo "there is no $venv, and --offline" > "$log" && return 1; }
        local copy # pip builds in the folder
        copy=$(mktemp -d)
        cp -r training/. "$copy"
        { python3 -m venv "$venv" && "$venv/bin/pip" install "$copy[spm,check,eraser,test]"; } > "$log" 2>&1 || return 1
        rm -rf "$copy"
    fi
    (cd training && PYTHONPATH=. "$venv/bin/pytest" -q tests) > "$log" 2>&1 && echo "training: $(tail -n 1 "$log")"
}
if [ $training = yes ]; then test_training || fail "training: see build/training.log"; fi

python3 - "$failures" "${reports[@]}" << 'END'
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

total_passed, total_failed = 0, int(sys.argv[1])
for report in sys.argv[2:]:
    tree = Path(report).stem
    groups, figures = {}, []
    for case in ElementTree.parse(report).iter("testcase"):
        group = groups.setdefault(case.get("name").partition(".")[0], {"passed": 0, "failed": 0, "skipped": 0, "s": 0.0})
        output = case.findtext("system-out") or ""
        figures += [line for line in output.splitlines() if line.startswith("# figure:")]
        group["s"] += float(case.get("time") or 0)
        skipped = case.find("skipped")
        if case.get("status") == "run":
            group["passed"] += 1
        elif case.get("status") == "disabled" or skipped is not None and "SKIP" in (skipped.get("message") or ""):
            group["skipped"] += 1
        else:  # also a test whose program is not there
            group["failed"] += 1
            print(f"---- {tree}: {case.get('name')} failed\n{output.rstrip()}\n----")
    for name, group in sorted(groups.items()):
        skipped = f", {group['skipped']} skipped" if group["skipped"] else ""
        print(f"{tree}: {name}: {group['passed']} passed, {group['failed']} failed{skipped} in {group['s']:.1f} s")
        total_passed += group["passed"]
        total_failed += group["failed"]
    print(*(f"{line} [{tree}]" for line in figures), sep="\n", end="\n" if figures else "")
print(f"{total_passed} passed, {total_failed} failed")
sys.exit(total_failed > 0 or total_passed == 0)
END
