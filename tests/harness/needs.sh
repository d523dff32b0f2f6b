#!/bin/sh
# What a machine must have before anything is built: installed with apt where we are root, else named, all at once.
# Rust is named only: how it gets onto a machine is its owner's choice.
set -u
rust_needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../../Cargo.toml")
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

# Both a libclang to load and the compiler's own headers beside it: bindgen reads Postgres's headers with them.
has_libclang() {
    for library in "${LIBCLANG_PATH:-/nonexistent}"/libclang*.so* /usr/lib/llvm-*/lib/libclang*.so* \
        /usr/lib/*-linux-gnu/libclang*.so* /usr/lib64/libclang*.so* /usr/local/lib/libclang*.so*; do
        [ -e "$library" ] && command -v clang >/dev/null && return 0
    done
    return 1
}

# cargo-pgrx, where it has yet to be compiled (see build.py), links to the system's OpenSSL.
has_openssl() {
    cache=${PERSONA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pg_persona}
    pgrx=$(sed -n 's/^CARGO_PGRX = "\(.*\)".*/\1/p' "$(dirname "$0")/build.py")
    [ -e "$cache/cargo-pgrx-$pgrx" ] && return 0
    [ "$(cargo-pgrx pgrx --version 2>/dev/null)" = "cargo-pgrx $pgrx" ] && return 0
    pkg-config --exists openssl 2>/dev/null
}

# Prints the Debian packages of what is missing.
missing() {
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -xc - -o /dev/null 2>/dev/null || echo gcc libc6-dev
    has_libclang || echo clang libclang-dev
    has_openssl || echo pkg-config libssl-dev
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || echo python3
    python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
}

packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "==> installing $packages" >&2
    # two runs at once: apt holds a lock of its own
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -o DPkg::Lock::Timeout=300 -qq update \
        && apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install $packages; } >&2 </dev/null
    packages=$(missing | tr '\n' ' ')
fi

status=0
if [ -n "$packages" ]; then
    echo "error: missing on this machine: $packages" >&2
    echo "  On Debian and Ubuntu: sudo apt-get install $packages" >&2
    echo "  Elsewhere: a C compiler, clang with libclang, pkg-config and OpenSSL's headers, Python 3.10 or newer with pip." >&2
    status=1
fi
rust=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9]*\.[0-9]*\).*/\1/p')
if [ -z "$rust" ] || ! command -v cargo >/dev/null; then
    echo "error: missing on this machine: Rust $rust_needed or newer (cargo, rustc)" >&2
    echo "  See https://www.rust-lang.org/tools/install; distributions' own packages are often too old." >&2
    status=1
elif [ "$(printf '%s\n%s\n' "$rust_needed" "$rust" | sort -V | head -n 1)" != "$rust_needed" ]; then
    echo "error: Rust is $rust, needed is $rust_needed or newer: rustup update stable" >&2
    status=1
fi
exit $status
