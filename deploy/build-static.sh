#!/bin/sh
# Builds ghl-auth as one file that needs nothing of the system it runs on, for this machine's processor.
#
#   deploy/build-static.sh [--musl] [WHERE-TO]      default: ./ghl-auth
#
# The Dockerfile builds with this, too. It needs Rust and a C compiler; glibc 2.34 or newer
# (Debian 12, Ubuntu 22.04) for a program that can still look names up in DNS.
#
# With --musl the program holds musl instead of glibc, and so runs on any Linux (Alpine too) and looks names up by itself;
# it hands out memory more slowly. It needs `rustup target add x86_64-unknown-linux-musl` and Debian's musl-tools.
set -eu

libc=gnu
[ "${1-}" != --musl ] || { libc=musl; shift; }
to=$(pwd)/ghl-auth
case ${1-} in
    '') ;;
    /*) to=$1 ;;
    *) to=$(pwd)/$1 ;;
esac
cd "$(dirname "$0")/.."

# Without this, every new process spends 50 ms on gathering entropy that it does not use.
export AWS_LC_SYS_NO_JITTER_ENTROPY=1
export RUSTFLAGS='-C target-feature=+crt-static'
# Named although it is the host's own: only then do procedural macros, which can't be static, build.
target=$(rustc -vV | sed -n 's/^host: //p')
if [ "$libc" = musl ]; then
    target=${target%-gnu}-musl
    command -v musl-gcc > /dev/null || { echo "musl-gcc is missing: apt install musl-tools" >&2; exit 1; }
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] \
        || { echo "Rust's library for musl is missing: rustup target add $target" >&2; exit 1; }
    # For what is written in C; Rust brings what it takes to link.
    export "CC_$(echo "$target" | tr - _)=musl-gcc"
fi

cargo build --release --locked --package ghl-auth --target "$target"
built=${CARGO_TARGET_DIR:-target}/$target/release/ghl-auth

if readelf --program-headers "$built" | grep -q INTERP; then
    echo "$built is not static: it asks for a dynamic linker" >&2
    exit 1
fi
mkdir -p "$(dirname "$to")"
install -m 0755 "$built" "$to"
