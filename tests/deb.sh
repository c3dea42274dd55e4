#!/bin/bash
# Builds the Debian package and installs it for real, in a Debian of its own.
#
#   sudo tests/deb.sh [GHL-AUTH]        default: ghl-auth of the last build
#
# debootstrap makes that Debian in a folder, which goes away at the end. systemd is played there by a script
# that writes down what it was asked.
set -euo pipefail
umask 022

# shellcheck source=tests/start.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/start.sh"
[ "$(id -u)" = 0 ] || { echo "tests/deb.sh needs root: it installs a package in a chroot" >&2; exit 2; }
command -v debootstrap > /dev/null || { echo "tests/deb.sh needs debootstrap" >&2; exit 2; }
find_program "${1:-}"

work=$(mktemp -d /var/tmp/ghl-auth-deb.XXXXXX)
root=$work/root
# shellcheck disable=SC2317  # called by the trap
clean_up() {
    [ -z "$sandbox_process" ] || kill "$sandbox_process" 2> /dev/null || true
    umount "$root/proc" 2> /dev/null || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
run() { # COMMAND…: in there
    exit=0
    inside "$@" > "$work/out" 2>&1 < /dev/null || exit=$?
}
exited() { [ "$exit" = "$1" ]; }
said() { grep -qF -- "$1" "$work/out"; }
asked() { grep -qxF -- "$1" "$root/asked"; }
not() { ! "$@"; }
is() { # MODE OWNER FILE
    [ "$(inside stat -c '%a %U:%G' "$3")" = "$1 $2" ]
}

## The package

# A release is stripped already; a debug build is three times as large with what a debugger wants.
strip -o "$work/ghl-auth" "$program"
export DEBEMAIL=maintainer@debian.org SOURCE_DATE_EPOCH=1700000000
build() { "$repository/deploy/build-deb.sh" "$work/ghl-auth" "$1" > "$work/out" 2>&1; }
check "the package is built" build "$work/first.deb"
check "… and built again it is the same, byte for byte" eval "build '$work/again.deb' && cmp '$work/first.deb' '$work/again.deb'"
DEB_REVISION=2 build "$work/second.deb"
if command -v lintian > /dev/null; then
    check "lintian finds no error" lintian --fail-on error,warning --suppress-tags bad-distribution-in-changes-file \
        --allow-root "$work/first.deb"
else
    echo "left out: lintian is not there" >&2
fi
dpkg-deb --ctrl-tarfile "$work/first.deb" | tar -xC "$work" ./postinst ./prerm ./postrm
check "what dpkg runs is plain sh" shellcheck "$work/postinst" "$work/prerm" "$work/postrm"
mkdir "$work/files"
dpkg-deb --extract "$work/first.deb" "$work/files"
check "every file is in md5sums, but for the settings" eval "cd '$work/files' \
    && dpkg-deb --info '$work/first.deb' md5sums | md5sum --check --quiet \
    && [ \"\$(find usr -type f | wc -l)\" = \"\$(dpkg-deb --info '$work/first.deb' md5sums | wc -l)\" ]"
check "the settings set nothing but the store and its key" diff <(grep -v '^#\|^$' "$work/files/etc/ghl-auth/env") \
    <(printf '%s\n' GHL_STORE=sqlite:/var/lib/ghl-auth/ghl-auth.db GHL_AUTH_KEY_FILE=/etc/ghl-auth/auth-key)
names() { grep -oE '^# [A-Z][A-Z_]+=|^[A-Z_]+=' "$1" | sed 's/^# //' | sort -u; }
check "… and name all that .env.example does" diff <(names "$work/files/etc/ghl-auth/env") <(names "$repository/.env.example")

# The unit's own condition, asked as systemd asks it.
unit=$work/files/usr/lib/systemd/system/ghl-auth.service
# Not every systemd gives a condition the credentials, and the service's user can't read the settings.
check "the unit's condition looks as root" grep -qE '^ExecCondition=\+/bin/grep .* /etc/ghl-auth/env$' "$unit"
pattern=$(sed -n 's/^ExecCondition=.*-qE "\([^"]*\)".*/\1/p' "$unit")
would_start() { grep -qE "$pattern" "$1"; }
check "the unit does not start with the settings as they come" not would_start "$work/files/etc/ghl-auth/env"
for line in GHL_CLIENT_ID=x 'export GHL_PRIVATE_TOKEN=pit-x' GHL_PRIVATE_TOKEN_FILE=/x GHL_APP_BILLING_CLIENT_ID=x; do
    echo "$line" > "$work/env"
    check "… and starts with $line" would_start "$work/env"
done
sed 's/^/# /' "$work/env" > "$work/commented"
check "… but not with that behind a #" not would_start "$work/commented"
sed "s|/usr/bin/ghl-auth|$work/ghl-auth|" "$unit" > "$work/ghl-auth.service"
check "systemd takes the unit" eval "systemd-analyze verify '$work/ghl-auth.service' 2>&1 | not grep -F ghl-auth.service"

## A Debian to install it in

suite=$(sed -n 's|^FROM rust:[^ ]*-\([a-z]*\) AS build$|\1|p' "$repository/Dockerfile")
started=$SECONDS
debootstrap --variant=minbase --include=adduser,ca-certificates,man-db,bash-completion "$suite" "$root" > "$work/out" 2>&1 \
    || { tail "$work/out" >&2; exit 1; }
echo "Debian $suite took $((SECONDS - started)) s"
mount -t proc proc "$root/proc"
mkdir -p "$root/run/systemd/system"
printf '#!/bin/sh\necho "$*" >> /asked\n' > "$root/usr/bin/systemctl"
chmod 755 "$root/usr/bin/systemctl"
: > "$root/asked"
cp "$work"/{first,second}.deb "$root/"

## Installed

run dpkg -i /first.deb
check "it is installed" exited 0
check "… and nothing was started, restarted or enabled" diff "$root/asked" <(echo '--system daemon-reload')
in_there() { find /proc -maxdepth 2 -name root -lname "$root*" 2> /dev/null | grep .; }
check "… nor does anything run there" not in_there
check "the program is there, for everybody" is 755 root:root /usr/bin/ghl-auth
check "the settings are root's alone" is 600 root:root /etc/ghl-auth/env
check "the key is the service's alone" is 600 ghl-auth:ghl-auth /etc/ghl-auth/auth-key
check "… and 32 bytes" eval "[ \$(base64 -d '$root/etc/ghl-auth/auth-key' | wc -c) = 32 ]"
check "the store's folder is the service's alone" is 700 ghl-auth:ghl-auth /var/lib/ghl-auth
run getent passwd ghl-auth
check "the user has no shell" said ":/var/lib/ghl-auth:/usr/sbin/nologin"
run getent shadow ghl-auth
check "… and no password" grep -qE '^ghl-auth:[!*]' "$work/out"

run ghl-auth --version
check "it says its version" said "ghl-auth $(dpkg-deb -f "$work/first.deb" Version | cut -d- -f1)"
run env MANPAGER=cat man ghl-auth
check "man shows its page" said "rotate-key"
run env MANPAGER=cat LC_ALL= LANGUAGE=pt_BR man -L pt_BR ghl-auth
check "… and in Portuguese" said "SINOPSE"
# shellcheck disable=SC2016  # the inner shell's variables
run bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader ghl-auth; COMP_WORDS=(ghl-auth rotate) COMP_CWORD=1
    $(complete -p ghl-auth | sed "s/.*-F \([^ ]*\) .*/\1/") ghl-auth rotate ghl-auth; echo "${COMPREPLY[*]}"'
check "bash completes it" said "rotate-all rotate-key"
for shell in "zsh -n $work/files/usr/share/zsh/vendor-completions/_ghl-auth" \
    "fish --no-execute $work/files/usr/share/fish/vendor_completions.d/ghl-auth.fish"; do
    if command -v "${shell%% *}" > /dev/null; then
        check "${shell%% *} reads its completions" eval "$shell"
    fi
done

run ghl-auth --env-file /etc/ghl-auth/env check
check "before it is configured, the check says what is missing: exit 2" eval "exited 2 && said GHL_CLIENT_ID"

## Configured, against the sandbox

begin_sandbox "$work/ghl-auth"
curl -fsS "$sandbox/_sandbox/env" | grep -v '^GHL_STORE=' >> "$root/etc/ghl-auth/env"
code=$(consented)
check "with an app, the unit would start" would_start "$root/etc/ghl-auth/env"
run ghl-auth --env-file /etc/ghl-auth/env login --code "$code"
check "root authorizes" exited 0
check "… and nobody is warned of the settings' mode" not said chmod
run ghl-auth --env-file /etc/ghl-auth/env check
check "… checks" eval "exited 0 && said 'Microservice operational.'"
check "… and all there is belongs to the service" eval "[ -z \"\$(find '$root/var/lib/ghl-auth' ! -uid \$(stat -c %u '$root/var/lib/ghl-auth'))\" ]"
# As the unit runs it: as that user, with a copy of the settings of its own.
inside install -m 400 -o ghl-auth /etc/ghl-auth/env /run/credential
run setpriv --reuid ghl-auth --regid ghl-auth --clear-groups ghl-auth --env-file /run/credential check
check "the service's user checks, too, with the key of its own" exited 0

## Upgraded

cp "$root/etc/ghl-auth/env" "$work/kept"
before=$(inside md5sum /etc/ghl-auth/auth-key /var/lib/ghl-auth/ghl-auth.db)
: > "$root/asked"
run dpkg -i /second.deb
check "it is upgraded" exited 0
check "… and keeps the settings" cmp "$root/etc/ghl-auth/env" "$work/kept"
check "… which stay root's alone" is 600 root:root /etc/ghl-auth/env
check "… and the key and the store" [ "$before" = "$(inside md5sum /etc/ghl-auth/auth-key /var/lib/ghl-auth/ghl-auth.db)" ]
check "… and has a service that runs go on with the new program" asked "try-restart ghl-auth.service"
check "… but starts none" not grep -E '(^| )(start|restart|enable)( |$)' "$root/asked"

## Removed

mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s /usr/lib/systemd/system/ghl-auth.service "$root/etc/systemd/system/multi-user.target.wants/ghl-auth.service"
: > "$root/asked"
run dpkg -r ghl-auth
check "it is removed" exited 0
check "… its service is stopped" asked "stop ghl-auth.service"
check "… and its settings stay" cmp "$root/etc/ghl-auth/env" "$work/kept"
run dpkg -P ghl-auth
check "it is purged" exited 0
check "… the settings are gone" [ ! -e "$root/etc/ghl-auth/env" ]
check "… and what had it started" [ ! -L "$root/etc/systemd/system/multi-user.target.wants/ghl-auth.service" ]
check "… the store and its key stay as they were" [ "$before" = "$(inside md5sum /etc/ghl-auth/auth-key /var/lib/ghl-auth/ghl-auth.db)" ]
check "… that is said" said "/var/lib/ghl-auth stays"
check "… and so does their owner" is 700 ghl-auth:ghl-auth /var/lib/ghl-auth
run dpkg -i /second.deb
check "installed again, the store opens with the same key" [ "$before" = "$(inside md5sum /etc/ghl-auth/auth-key /var/lib/ghl-auth/ghl-auth.db)" ]
rm -rf "$root"/var/lib/ghl-auth/*
run dpkg -P ghl-auth
check "purged without a store, nothing stays" eval "exited 0 && [ ! -e '$root/etc/ghl-auth' ] && [ ! -e '$root/var/lib/ghl-auth' ] && not inside getent passwd ghl-auth"

tallied
