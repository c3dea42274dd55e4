#!/bin/bash
# Has a real systemd keep the service as `schedule install --service` sets it up: the system's under the owner of the
# tokens and under root, and a user's own.
#
#   sudo tests/systemd.sh [GHL-AUTH]        default: ghl-auth of the last build
#
# This machine's systemd is not asked: one of its own begins as the first process of a namespace, over a copy of / that
# goes away at the end. What it starts listens on loopback only.
set -euo pipefail
umask 022

# shellcheck source=tests/start.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/start.sh"
[ "$(id -u)" = 0 ] || { echo "tests/systemd.sh needs root: it mounts, and begins a systemd" >&2; exit 2; }
[ -x /lib/systemd/systemd ] || { echo "skipped: there is no systemd here" >&2; exit 0; }
find_program "${1:-}"

work=$(mktemp -d)
first=
# shellcheck disable=SC2317  # called by the trap
clean_up() {
    [ -z "$sandbox_process" ] || kill "$sandbox_process" 2> /dev/null || true
    # The first process of a namespace: everything in it ends with it.
    [ -z "$first" ] || kill -9 "$first" 2> /dev/null || true
    wait
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

cat > "$work/begin" << 'END'
set -eu
top=$1/top
mkdir "$top"
mount -t tmpfs none "$top"
mkdir "$top/up" "$top/work" "$top/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/up,workdir=$top/work" "$top/root"
cd "$top/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
# What stands in an overlay would be lost with a container, and is refused: these are mounted.
for folder in run tmp opt home; do mount -t tmpfs tmpfs $folder; done
mkdir -p run/systemd old
cp "$2" usr/local/bin/ghl-auth
pivot_root . old
# What systemd hands its services reaches them through mounts that are shared.
exec chroot . /bin/sh -c 'umount -l /old; mount --make-rshared /
    exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target'
END
unshare --mount --pid --fork --cgroup --uts --ipc --propagation private \
    bash "$work/begin" "$work" "$program" > "$work/systemd.log" 2>&1 &
outside=$!

inside() { nsenter -t "$first" -m -p -u -i -C -r -w env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"; }
is_up() {
    first=$(cat "/proc/$outside/task/$outside/children" 2> /dev/null || true)
    first=${first%% *}
    [ -n "$first" ] && inside systemctl is-system-running 2> /dev/null | grep -qE 'running|degraded'
}
for _ in {1..150}; do
    ! is_up || break
    kill -0 "$outside" 2> /dev/null || break
    sleep 0.2
done
if ! is_up; then
    first=
    tail -n 5 "$work/systemd.log" >&2
    echo "skipped: no systemd can be begun here" >&2
    exit 0
fi

run() { # FOLDER COMMAND…: as the user that $as names
    local folder=$1
    shift
    exit=0
    # shellcheck disable=SC2016  # the inner shell's
    inside "${as[@]}" sh -c 'cd "$1" && shift && exec "$@"' sh "$folder" "$@" > "$work/out" 2>&1 < /dev/null || exit=$?
}
as=(env)
exited() { [ "$exit" = "$1" ]; }
said() { grep -qF -- "$1" "$work/out"; }
not() { ! "$@"; }
runs_as() { inside ps -o user= -C ghl-auth | grep -qx "$1"; }
settings() { # FOLDER: an .env there, for the sandbox
    {
        curl -fsS "$sandbox/_sandbox/env"
        echo GHL_STORE=sqlite:tokens.db
        echo "GHL_AUTH_KEY=$(head -c 32 /dev/urandom | base64)"
        echo GHL_AUTH_LISTEN=127.0.0.1:0
        echo GHL_AUTH_LANG=en
    } > "$work/settings"
    inside mkdir -p "$1"
    inside install -m 600 /dev/stdin "$1/.env" < "$work/settings"
}

begin_sandbox "$program"

## The system's, of root, in a folder with a blank in its name

settings "/opt/ghl auth"
run "/opt/ghl auth" ghl-auth login --code "$(consented)"
check "root authorizes" exited 0
run "/opt/ghl auth" ghl-auth schedule install --service
check "the service is installed" exited 0
check "… and says how to see it" said "systemctl status ghl-auth"
run / systemctl is-active ghl-auth
check "systemd says that it runs" said active
run / systemctl is-enabled ghl-auth
check "… and starts with the machine" said enabled
run / sh -c "systemd-analyze security ghl-auth --no-pager | grep -oE 'level for ghl-auth.service: [0-9]'"
check "… and is locked down" eval "said ': 1' || said ': 0'"
run "/opt/ghl auth" ghl-auth doctor --json
check "the doctor finds that the check runs" said schedule_good
run "/opt/ghl auth" ghl-auth schedule install --service
check "installed again, it begins anew" exited 0
run / systemctl stop ghl-auth
run "/opt/ghl auth" ghl-auth doctor --json
check "stopped, the doctor says so" said service_stopped
settings /opt/other
run /opt/other ghl-auth schedule install --service
check "another folder's service is not replaced" said service_of_another
run "/opt/ghl auth" ghl-auth schedule remove --service
check "it is removed" exited 0
run / systemctl cat ghl-auth
check "… and nothing is left of it" not exited 0

## The system's, of a user whose the tokens are

inside useradd --create-home ana
settings /home/ana/ghl
inside chown -R ana: /home/ana/ghl
run /home/ana/ghl ghl-auth login --code "$(consented)"
run /home/ana/ghl ghl-auth schedule install --service
check "root installs it for the owner of the tokens" exited 0
check "… as whom it runs" runs_as ana
run /home/ana/ghl sed -i 's/^GHL_AUTH_KEY=.*/GHL_AUTH_KEY=q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=/' .env
run /home/ana/ghl ghl-auth schedule install --service
check "with a wrong key it does not start" said service_not_started
check "… and says why, in its own words" said wrong_key
run /home/ana/ghl ghl-auth schedule remove --service

## A user's own

uid=$(inside id -u ana)
inside systemctl start "user@$uid.service"
as=(setpriv --reuid "$uid" --regid "$uid" --clear-groups env HOME=/home/ana "XDG_RUNTIME_DIR=/run/user/$uid")
inside rm -rf /home/ana/ghl
settings /home/ana/ghl
inside chown -R ana: /home/ana
run /home/ana/ghl ghl-auth login --code "$(consented)"
run /home/ana/ghl ghl-auth schedule install --service
check "a user installs a service of their own" exited 0
check "… and is told of lingering" said "loginctl enable-linger ana"
run /home/ana/ghl systemctl --user is-active ghl-auth
check "… which runs" said active
run /home/ana/ghl ghl-auth schedule remove --service
run /home/ana/ghl systemctl --user is-active ghl-auth
check "… until it is removed" not exited 0

tallied
