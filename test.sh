#!/usr/bin/env bash
# Installs what the tests need and runs them all. `./test.sh --quick` leaves out the Debian package
# and the container image, which take seven minutes. The long forms of the kill tests are in ./long-tests.sh.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '\n== %s\n' "$*"; }

# Debian's packages that the tests use for real. Without root, tests that need a missing one say so.
need() {
    local missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing ${missing[*]}"
        # What brings a service with it is not to start it: the tests start their own, on loopback.
        local policy=/usr/sbin/policy-rc.d
        if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; fi
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
        [ -z "$policy" ] || rm -f "$policy"
    else
        echo "missing: ${missing[*]} — install them to run every test" >&2
    fi
}
need cc=gcc strace=strace crontab=cron python3=python3 curl=curl openssl=openssl node=nodejs npm=npm \
    buildah=buildah debootstrap=debootstrap shellcheck=shellcheck systemd-analyze=systemd man=man-db \
    docker-compose=docker-compose pgbouncer=pgbouncer faketime=faketime nginx=nginx-core haproxy=haproxy \
    chromium=chromium lintian=lintian
python3 -c 'import ensurepip' 2>/dev/null || need venv=python3-venv
# PostgreSQL's package would make a database of its own and start it; the tests start theirs.
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    need initdb=postgresql
fi
# Prometheus' package starts a daemon with it, so its tool alone is taken out.
if ! command -v promtool >/dev/null && command -v apt-get >/dev/null; then
    tools=$PWD/target/tools/prometheus
    if ! [ -x "$tools/usr/bin/promtool" ]; then
        say "fetching promtool"
        mkdir -p "$tools"
        (cd "$tools" && apt-get download -qq prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool) \
            || echo "missing: promtool; the alert rules are not tried" >&2
    fi
    export PATH=$PATH:$tools/usr/bin
fi

say "tests of every crate, over real sockets, files and databases"
# With the feature, they also see that a story fails without each rule of the refresh.
cargo test --workspace --locked --features ghl-auth/break-rules

say "the API, held to its own description (the long form: GHL_AUTH_EXAMPLES=500 tests/api.sh)"
tests/api.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"

say "HighLevel's own SDKs, through the gateway"
tests/sdks.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"

say "what the gateway asks of the system"
tests/gateway_cost.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"

say "the dashboard and the status page, in a browser"
tests/dashboard.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"

say "the sandbox's console, in a browser, beside a service"
tests/console.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"

say "the scripts that people deploy"
tests/deploy.sh

say "the book, rendered, and its commands"
tests/docs.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"

say "the manifests for Kubernetes"
tests/kubernetes.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"

if [ "${1:-}" = --quick ]; then
    exit
fi
say "the Debian package, built and installed"
if [ "$(id -u)" = 0 ]; then
    tests/deb.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"
else
    echo "left out: it installs a package in a chroot, so it needs root: sudo tests/deb.sh" >&2
fi

say "the service, kept by a systemd of its own"
if [ "$(id -u)" = 0 ]; then
    tests/systemd.sh "${CARGO_TARGET_DIR:-target}/debug/ghl-auth"
else
    echo "left out: it mounts, and begins a systemd, so it needs root: sudo tests/systemd.sh" >&2
fi

say "the container image, built and run"
if [ "$(id -u)" = 0 ]; then
    tests/image.sh
else
    echo "left out: it mounts and gives files away, so it needs root: sudo tests/image.sh" >&2
fi
