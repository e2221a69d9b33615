#!/usr/bin/env bash
# Compares rasure with llama.cpp on this machine and writes docs/performance.md.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
    cat << 'END'
Usage: bench/compare.sh [--quick] [--offline] [--peers-only] [--best-only] [--rasure PROGRAM] [OPTION...]

Builds rasure (build/release) and llama.cpp (the sources inside the Python package llama-cpp-python 0.3.36, in
${XDG_CACHE_HOME:-~/.cache}/rasure/peers), runs both on one model file, and writes docs/performance.md (what is
between its compare markers), docs/performance.json and docs/performance.svg. About an hour on two cores; both
keep every core busy, so let nothing else run.

  --quick           a few minutes: one round of little work, printed and written nowhere
  --offline         use no network
  --peers-only      build llama.cpp and stop
  --best-only       this processor's best instruction set level alone
  --rasure PROGRAM  this rasure instead of a build; the programs of bench/ are looked for beside it, where a
                    build puts them
  --help            this text

Each OPTION goes to bench/compare.py:

  --rounds N        rounds of A B A B (default 5)
  --threads LIST    thread counts (default 1,2)
  --model FILE      GGUF file (default: the default model)
  --batch N         tokens that rasure reads at a time (default: its own)
  --shallow         nothing behind other tokens, no other formats: a quarter of the time
  --name NAME       of the documents (default: performance)
  --render FILE     measure nothing: write the documents again from a docs/performance.json
END
}

quick=() setup=() options=() peers_only=no best_only=no rasure='' render=no
while (($# > 0)); do
    case $1 in
        -h | --help) usage && exit ;;
        --quick) quick=(--quick) ;;
        --offline) setup=(--offline) ;;
        --peers-only) peers_only=yes ;;
        --best-only) best_only=yes ;;
        --shallow) options+=("$1") ;;
        --rasure | --name | --rounds | --threads | --model | --batch | --render)
            (($# > 1)) || die "$1 needs a value; see --help"
            case $1 in
                --rasure) rasure=$(realpath "$2") ;;
                --render) render=yes && options+=("$1" "$2") ;;
                *) options+=("$1" "$2") ;;
            esac
            shift
            ;;
        *) die "unknown argument '$1'; see --help" ;;
    esac
    shift
done

compare=(python3 "$repo/bench/compare.py")
[ $render = no ] || exec "${compare[@]}" "${options[@]}"

# ------------------------------------------------------------------------------------------ llama.cpp --

package=llama_cpp_python-0.3.36
package_hash=SHA256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
peers=$cache/peers
source_dir=$peers/$package/vendor/llama.cpp
log=$peers/compare.log
read -ra cxx <<< "${CXX:-c++}"

fetch_peer() {
    local archive=$peers/$package.tar.gz
    if [ ! -f "$archive" ]; then
        [ ${#setup[@]} = 0 ] || die "$archive is not there and --offline forbids to fetch it"
        echo "llama.cpp: fetching llama-cpp-python 0.3.36"
        logged "$log" python3 -m pip download --no-deps --no-binary llama-cpp-python --dest "$peers" \
            llama-cpp-python==0.3.36
    fi
    has_digest "$archive" "$package_hash" || die "$archive has another digest than ${package_hash/=/ }"
    if [ ! -d "$source_dir" ]; then
        rm -rf "${peers:?}/unpack" "${peers:?}/$package"
        mkdir "$peers/unpack"
        (cd "$peers/unpack" && cmake -E tar xzf "$archive") || die "cannot unpack $archive"
        mv "$peers/unpack/$package" "$peers/"
        rmdir "$peers/unpack"
    fi
}

# GCC 12 takes the 64 bytes behind _tile_loadconfig's operand for 8 and drops the writes of the others: the tiles
# get no shape and the first product crashes. A compiler barrier keeps them.
barrier='    asm volatile("" ::: "memory"); // the writes to tc happen before it is loaded'
patch_peer() {
    local file=$source_dir/ggml/src/ggml-cpu/amx/mmq.cpp call='    _tile_loadconfig(&tc);'
    if ! grep -qxF "$barrier" "$file"; then
        [ "$(grep -cxF "$call" "$file")" = 1 ] || die "$file has not the one _tile_loadconfig that it should have"
        awk -v call="$call" -v barrier="$(printf '%s' "$barrier")" '$0 == call { print barrier } { print }' "$file" \
            > "$file.new"
        grep -qxF "$barrier" "$file.new" || die "cannot patch $file"
        mv "$file.new" "$file"
    fi
    echo 'llama.cpp: patched in one place, a compiler barrier before _tile_loadconfig (its AMX path crashes without, as GCC 12 builds it)'
}

has_flags() {
    local flag
    for flag; do [[ " $cpu_flags " = *" $flag "* ]] || return 1; done
}

common=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_WEBUI=OFF
    -DLLAMA_BUILD_TOOLS=ON)
programs=(llama-bench llama-batched-bench llama-quantize)

# What a build depends on lies beside it, so that a cache that moved to another machine is built again.
build_peer() { # VARIANT OPTION...
    local folder=$peers/$1 key program
    key=$(printf '%s\n' "$package_hash" "$barrier" "$cpu_flags" "$(uname -m)" "$("${cxx[@]}" --version)" \
        "${CC-} ${CXX-} ${CFLAGS-} ${CXXFLAGS-}" "${common[@]}" "${@:2}" "${programs[@]}" | sha256sum | cut -d ' ' -f 1)
    if [ "$(cat "$folder/compare-key" 2> /dev/null)" = "$key" ]; then
        for program in "${programs[@]}"; do [ -x "$folder/bin/$program" ] || break; done
        [ ! -x "$folder/bin/$program" ] || return 0
    fi
    echo "llama.cpp: building $1"
    rm -rf "$folder"
    logged "$log" cmake -S "$source_dir" -B "$folder" "${common[@]}" "${@:2}"
    logged "$log" cmake --build "$folder" --parallel "$(nproc)" --target "${programs[@]}"
    echo "$key" > "$folder/compare-key"
}

mkdir -p "$peers"
[ -n "$rasure" ] || "$repo/scripts/setup.sh" "${setup[@]}"
cpu_flags=$(sed -n '/^\(flags\|Features\)/ { s/.*: //p; q }' /proc/cpuinfo)
fetch_peer
patch_peer
variants=native
build_peer native -DGGML_NATIVE=ON
if [ $best_only = no ] && has_flags amx_tile amx_int8; then
    no_amx=(-mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
    if "${cxx[@]}" "${no_amx[@]}" -march=native -dM -E -x c++ /dev/null | grep -q __AMX_; then
        die "${cxx[*]} leaves AMX on in spite of ${no_amx[*]}"
    fi
    build_peer no-amx -DGGML_NATIVE=ON -DCMAKE_C_FLAGS="${no_amx[*]}" -DCMAKE_CXX_FLAGS="${no_amx[*]}"
    variants+=,no-amx
fi
# Where AVX2 is the best there is, `native` is that build.
if [ $best_only = no ] && has_flags avx2 fma f16c bmi2 && { has_flags avx512f || has_flags avx_vnni; }; then
    build_peer avx2 -DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON \
        -DGGML_BMI2=ON
    variants+=,avx2
fi
[ $peers_only = no ] || exit 0

# The default model in formats that llama.cpp has kernels of its own kind for; another --model is taken as it is.
formats=()
default_model=$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
if [[ ${#quick[@]} = 0 && " ${options[*]} " != *' --model '* && " ${options[*]} " != *' --shallow '* ]]; then
    mkdir -p "$peers/formats"
    for format in Q4_0 Q8_0; do
        formats+=("$peers/formats/$format.gguf")
        [ -f "${formats[-1]}" ] || logged "$log" "$peers/native/bin/llama-quantize" --allow-requantize \
            "$default_model" "${formats[-1]}" "$format"
    done
fi

# --------------------------------------------------------------------------------------------- rasure --

if [ -z "$rasure" ]; then
    cd "$repo"
    mkdir -p build
    echo "rasure: building"
    logged build/compare.log cmake --preset release
    logged build/compare.log cmake --build build/release --parallel "$(nproc)" \
        --target rasure_cli bench_bandwidth bench_kernels
    rasure=$repo/build/release/examples/cli/rasure
fi
[ -x "$rasure" ] || die "$rasure is not there"

exec "${compare[@]}" --rasure "$rasure" --peers "$peers" --variants "$variants" \
    --compiler "$("${CC:-cc}" --version | head -n 1)" --formats "${formats[@]}" "${quick[@]}" "${options[@]}"
