#!/bin/bash
# Builds the image from the Dockerfile, for real, and runs it as the READMEs say, against the sandbox.
#
#   sudo tests/image.sh
#
# No Docker engine is needed: Debian's buildah builds the image and runs it in a chroot. The base
# image is made here, under the name that the Dockerfile uses, from Debian's packages and from the
# Rust that this machine has. GHL_AUTH_TEST_CACHE=FOLDER keeps the base image and what was compiled
# for the next run; without it nothing stays.
set -euo pipefail
umask 022

# shellcheck source=tests/start.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/start.sh"
cd "$repository"
[ "$(id -u)" = 0 ] || { echo "tests/image.sh needs root: it mounts, and gives files to other users" >&2; exit 2; }

image=ghl-auth-test
base=docker.io/library/$(sed -n 's/^FROM \(rust:[^ ]*\) AS build$/\1/p' Dockerfile)
work=$(mktemp -d /var/tmp/ghl-auth-image.XXXXXX)
kept=${GHL_AUTH_TEST_CACHE:-$work}
mkdir -p "$kept"
# buildah keeps the Dockerfile's cache mounts in a folder here.
export TMPDIR=$kept
names_process=

## How it is done

# shellcheck disable=SC2317  # called by the trap
clean_up() {
    for process in $sandbox_process $names_process; do
        kill "$process" 2> /dev/null || true
    done
    if command -v buildah > /dev/null; then
        b umount --all > /dev/null 2>&1 || true
        b rm --all > /dev/null 2>&1 || true
        [ "$kept" != "$work" ] || b rmi --all --force > /dev/null 2>&1 || true
    fi
    # A storage of our own mounts itself; rm must not meet it.
    umount "$work/storage/overlay" 2> /dev/null || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

b() {
    buildah --root "$kept/storage" --runroot "$work/run" --storage-driver "$driver" "$@"
}

said() { grep -qF -- "$1" "$work/out"; }
exited() { [ "$exit" = "$1" ]; }
not() { ! "$@"; }

install_missing() {
    local missing=()
    command -v buildah > /dev/null || missing+=(buildah)
    command -v debootstrap > /dev/null || missing+=(debootstrap)
    command -v curl > /dev/null || missing+=(curl)
    command -v python3 > /dev/null || missing+=(python3-minimal)
    command -v script > /dev/null || missing+=(bsdutils)
    if [ ${#missing[@]} -gt 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
    fi
}

# What the official image holds, as far as a build meets it: Debian's smallest, a C compiler,
# certificates, Rust under /usr/local.
make_base() {
    local wanted=${base##*:} container root toolchain
    toolchain=$(rustc --print sysroot)
    [[ $(rustc --version) == "rustc ${wanted%%-*}."* ]] || {
        echo "the Dockerfile builds with $base, and this machine has $(rustc --version)" >&2
        return 1
    }
    container=$(b from scratch)
    root=$(b mount "$container")
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev "${wanted##*-}" "$root" > "$work/debootstrap.log" \
        || { tail "$work/debootstrap.log" >&2; return 1; }
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
    # Behind a company's proxy the build needs the authorities that this machine trusts.
    cat /etc/ssl/certs/ca-certificates.crt > "$root/etc/ssl/certs/ca-certificates.crt" 2> /dev/null || true
    mkdir -p "$root/usr/local/cargo/bin"
    cp -a "$toolchain"/bin/{cargo,rustc} "$root/usr/local/cargo/bin/"
    tar -C "$toolchain" --exclude=lib/rustlib/multirust-channel-manifest.toml -c lib | tar -C "$root/usr/local/cargo" -x
    b config --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        --env CARGO_HOME=/usr/local/cargo "$container"
    b umount "$container" > /dev/null
    b commit --quiet --rm "$container" "$base" > /dev/null
}

## What docker does

# `--env-file`: every line as it stands, quotes and comments included.
docker_env() { # FILE
    local line
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        line=${line#"${line%%[![:space:]]*}"}
        case $line in
            '' | '#'*) ;;
            *=*) printf '%s\0' "$line" ;;
        esac
    done < "$1"
}

# `docker run --rm --env-file ./.env -v "${PWD}/ghl_tokens.json:/app/ghl_tokens.json" IMAGE ARGUMENT…`
# in the folder; `options` holds more options, as buildah spells them.
docker_run() { # FOLDER ARGUMENT…
    run_with "$1" "$1/ghl_tokens.json:/app/ghl_tokens.json" "${@:2}"
}

run_with() { # FOLDER VOLUME ARGUMENT…
    local folder=$1 volume=$2 container environment
    shift 2
    [ $# -gt 0 ] || set -- "${image_command[@]}"
    mapfile -d '' environment < <(docker_env "$folder/.env")
    container=$(b from "$image")
    exit=0
    b run --isolation chroot "${environment[@]/#/--env=}" --volume "$volume" "${options[@]}" \
        "$container" -- "${image_entrypoint[@]}" "$@" > "$work/out" 2>&1 || exit=$?
    b rm "$container" > /dev/null
}

# What compose.yaml asks for, where buildah's chroot falls short of a container: as process 1, under a
# root that nobody can write to, with .env mounted and no right but three (and the one to enter the root).
strict_run() { # FOLDER ARGUMENT…
    local mounts=("$1/ghl_tokens.json:/app/ghl_tokens.json")
    strict "$work/out" "$@"
}

# The service: with a volume for the data, and a secret as a file.
strict_serve() { # OUTPUT FOLDER ARGUMENT…
    local mounts=("$2/data:/data" "$2/ghl_auth_key:/run/secrets/ghl_auth_key")
    strict "$@"
}

strict() { # OUTPUT FOLDER ARGUMENT…: with what `mounts` holds
    local output=$1 folder=$2 container root mount target
    shift 2
    [ $# -gt 0 ] || set -- "${image_command[@]}"
    container=$(b from "$image")
    root=$(b mount "$container")
    # An engine makes what it mounts over; the image has hardly any of it.
    mkdir "$root/proc"
    touch "$root/app/.env" "$root/etc/resolv.conf"
    for mount in "${mounts[@]}"; do
        target=$root${mount#*:}
        mkdir -p "${target%/*}"
        [ -d "${mount%%:*}" ] || touch "$target"
    done
    exit=0
    # shellcheck disable=SC2016  # the inner shell's variables
    unshare --mount --pid --fork sh -euc '
        root=$1 folder=$2 names=$3
        shift 3
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        while [ "$1" != -- ]; do
            mount --bind "${1%%:*}" "$root${1#*:}"
            shift
        done
        shift
        mount --bind -o ro "$folder/.env" "$root/app/.env"
        mount --bind "$names" "$root/etc/resolv.conf"
        mount -o remount,bind,ro "$root"
        exec env -i "$@"
    ' - "$root" "$folder" "$work/resolv.conf" "${mounts[@]}" -- PATH=/usr/local/bin:/usr/bin:/bin \
        setpriv --no-new-privs --bounding-set=-all,+setuid,+setgid,+dac_override,+sys_chroot \
        unshare --root "$root" --wd "$image_folder" \
        "${image_entrypoint[@]}" "$@" > "$output" 2>&1 || exit=$?
    b rm "$container" > /dev/null
}

## The people who use it

# A folder as a user of the template has it: the sandbox's .env, with quotes and comments behind them.
new_folder() { # NAME
    local folder=$work/cases/$1
    mkdir -p "$folder"
    curl -fsS "$sandbox/_sandbox/env" | sed -E 's/^(GHL_REDIRECT_URI|RUN_INTERVAL_HOURS)=.*/& # Ex: a comment/' \
        > "$folder/.env"
    chmod 600 "$folder/.env"
    echo "$folder"
}

# Adds the tokens of a new grant as the Python template leaves them, expired, for others to read, and
# belonging to someone.
with_tokens() { # FOLDER OWNER
    (cd "$1" && "$work/ghl-auth" login --code "$(new_code)" > "$work/out" 2>&1) || cat "$work/out" >&2
    python3 - "$1/ghl_tokens.json" << 'END'
import json, sys
with open(sys.argv[1], "r+") as file:
    reply = json.load(file)
    del reply["ghl_auth"]
    reply["expiry_timestamp"] = "2020-01-01T00:00:00.123456"
    file.seek(0)
    file.truncate()
    json.dump(reply, file, indent=4)
END
    chmod 644 "$1/ghl_tokens.json"
    chown "$2" "$1/ghl_tokens.json"
    inode=$(stat -c %i "$1/ghl_tokens.json")
}

new_code() {
    curl -fsS "$sandbox/_sandbox/approve" -d '{"redirect_uri":"http://127.0.0.1:8788/oauth/callback"}' \
        | sed -E 's/.*"code": *"([^"]*)".*/\1/'
}

member() { # FILE NAME
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"
}

# Whether the host's file is still that one, its owner's alone, and holds HighLevel's current token.
kept_well() { # FOLDER OWNER
    local file=$1/ghl_tokens.json
    [ "$(stat -c '%i %u:%g %a' "$file")" = "$inode $2 600" ] && is_current "$file"
}

is_current() { # FILE
    local token
    token=$(member "$1" refresh_token)
    curl -fsS "$sandbox/_sandbox/judge" -d "{\"refresh_token\":\"$token\"}" \
        | grep -q '"refresh_token_is_current": *true'
}

cpu_millis() { # COMMAND…: the least CPU time of five runs
    python3 - "$@" << 'END'
import resource, subprocess, sys
def spent():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
def run():
    before = spent()
    subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return spent() - before
print(f"{min(run() for _ in range(5)) * 1000:.1f}")
END
}

# A name server on loopback that knows one name.
serve_names() {
    echo 'nameserver 127.0.0.77' > "$work/resolv.conf"
    python3 - "$work/asked" << 'END' &
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.77", 53))
with open(sys.argv[1], "w", buffering=1) as asked:
    while True:
        query, sender = server.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, kind, question = ".".join(labels), query[at + 2], query[12:at + 5]
        print(name, kind, file=asked)
        known = name == "highlevel.test"
        answer = known and kind == 1
        head = query[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0" * 4
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if answer else b""
        server.sendto(head + question + record, sender)
END
    names_process=$!
}

## The image

install_missing
for driver in overlay vfs; do
    if probe=$(b from scratch 2> /dev/null) && b mount "$probe" > /dev/null 2>&1; then break; fi
done
b rm --all > /dev/null

started=$SECONDS
b inspect --type image "$base" > /dev/null 2>&1 || make_base
echo "the base image took $((SECONDS - started)) s ($driver)"

started=$SECONDS
b build --isolation chroot --pull-never --tag "$image" . > "$work/out" 2>&1 && built=yes || built=no
check "the Dockerfile builds" [ "$built" = yes ]
[ "$built" = yes ] || { tallied; exit 1; }
echo "the build took $((SECONDS - started)) s"

b inspect --type image "$image" | python3 -c 'import json, sys; json.dump(json.load(sys.stdin)["OCIv1"]["config"], sys.stdout)' \
    > "$work/config"
list() { # MEMBER
    python3 -c 'import json, sys; [print(word, end="\0") for word in json.load(open(sys.argv[1]))[sys.argv[2]]]' "$work/config" "$1"
}
mapfile -d '' image_entrypoint < <(list Entrypoint)
mapfile -d '' image_command < <(list Cmd)
image_folder=$(member "$work/config" WorkingDir)
check "it starts \`ghl-auth check\` in /app" [ "${image_entrypoint[*]} ${image_command[*]} $image_folder" = "ghl-auth check /app" ]

container=$(b from "$image")
root=$(b mount "$container")
(cd "$root" && find . -mindepth 1 ! -type d -printf '%P\n' -o -empty -printf '%P/\n' | sort) > "$work/out"
check "it holds the program, the certificates, and nothing else" diff "$work/out" <(
    printf '%s\n' app/ data/ etc/ssl/certs/ca-certificates.crt tmp/ usr/local/bin/ghl-auth
)
binary_size=$(stat -c %s "$root/usr/local/bin/ghl-auth")
image_size=$(find "$root" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
check "the program is at most 23 MB ($binary_size bytes)" [ "$binary_size" -le 23000000 ]
check "the image is at most 23 MB ($image_size bytes)" [ "$image_size" -le 23000000 ]
cp "$root/usr/local/bin/ghl-auth" "$work/ghl-auth"
# As an engine makes a volume that is mounted there for the first time.
cp -a "$root/data" "$work/volume"
check "a volume at /data is born nobody else's" [ "$(stat -c '%u:%g %a' "$work/volume")" = "65532:65532 700" ]
b rm "$container" > /dev/null

## The sandbox, on the host's loopback

begin_sandbox "$work/ghl-auth"
: > "$work/resolv.conf"

## As the READMEs say

options=()
folder=$(new_folder users)
with_tokens "$folder" 1000:1000
docker_run "$folder"
check "tokens of user 1000: the check is operational" exited 0
check "… and says so" said "Microservice operational."
check "… quotes and comments that came through --env-file are cleaned, and that is said" said "GHL_REDIRECT_URI"
check "… the expired token was renewed" said "Token refreshed and saved."
check "… the file is still user 1000's, mode 0600, current" kept_well "$folder" 1000:1000
docker_run "$folder"
check "… and the next check finds it good" exited 0
docker_run "$folder" token
check "… and \`token\` gives one that HighLevel takes" grep -q '"access_token_is_valid": *true' <(
    curl -fsS "$sandbox/_sandbox/judge" -d "{\"access_token\":\"$(tail -n 1 "$work/out")\"}"
)

folder=$(new_folder roots)
with_tokens "$folder" 0:0
docker_run "$folder"
check "tokens of root: the check is operational" exited 0
check "… the file is still root's, mode 0600, current" kept_well "$folder" 0:0

folder=$(new_folder as-user)
with_tokens "$folder" 1000:1000
options=(--user 1000:1000)
docker_run "$folder"
check "--user 1000: the check is operational" exited 0
check "… the file is still user 1000's, mode 0600, current" kept_well "$folder" 1000:1000

folder=$(new_folder stranger)
with_tokens "$folder" 1000:1000
chmod 600 "$folder/ghl_tokens.json"
options=(--user 1001:1001)
docker_run "$folder"
check "--user 1001 on user 1000's tokens: exit 4" exited 4
check "… and the file is named" said "ghl_tokens.json"
options=()

folder=$(new_folder missing)
mkdir "$folder/ghl_tokens.json" # as docker's -v does where there is no file
docker_run "$folder"
check "no token file, so a folder is mounted: exit 2" exited 2
check "… and the folder is named as what it is" said "is a folder"

folder=$(new_folder first)
echo "GHL_AUTHORIZATION_CODE=\"$(new_code)\" # COLE_AQUI" >> "$folder/.env"
touch "$folder/ghl_tokens.json"
chown 1000:1000 "$folder/ghl_tokens.json"
inode=$(stat -c %i "$folder/ghl_tokens.json")
docker_run "$folder"
check "an empty file and GHL_AUTHORIZATION_CODE: the first check is operational" exited 0
check "… the file is user 1000's, mode 0600, current" kept_well "$folder" 1000:1000
docker_run "$folder"
check "… the next check does not send the code again" exited 0
check "… and keeps the grant" kept_well "$folder" 1000:1000

folder=$(new_folder folder)
with_tokens "$folder" 1000:1000
chown 1000:1000 "$folder"
run_with "$folder" "$folder:/app"
check "the folder mounted instead of the file: the check is operational" exited 0
check "… the tokens are current" is_current "$folder/ghl_tokens.json"
check "… and everything new is user 1000's" [ -z "$(find "$folder" ! -name .env ! -uid 1000)" ]

folder=$(new_folder sealed)
mkdir -m 700 "$folder/data"
chown 1000:1000 "$folder/data"
{
    echo 'GHL_STORE=sqlite:/app/tokens.db'
    echo "GHL_AUTH_KEY=$(head -c 32 /dev/urandom | base64)"
    echo "GHL_AUTHORIZATION_CODE=$(new_code)"
} >> "$folder/.env"
run_with "$folder" "$folder/data:/app"
check "SQLite in a mounted folder: the first check is operational" exited 0
check "… and everything there is user 1000's" [ -z "$(find "$folder/data" ! -uid 1000)" ]

folder=$(new_folder secret)
with_tokens "$folder" 1000:1000
sed -n 's/^GHL_CLIENT_SECRET="\(.*\)".*/\1/p' "$folder/.env" > "$folder/secret"
sed -i -e '/^GHL_CLIENT_SECRET=/d' -e '$ a GHL_CLIENT_SECRET_FILE=/run/secrets/ghl_client_secret' "$folder/.env"
options=(--volume "$folder/secret:/run/secrets/ghl_client_secret:ro")
chown 1000:1000 "$folder/secret"
chmod 600 "$folder/secret"
docker_run "$folder"
check "the client secret from a file: the check is operational" exited 0
chmod 644 "$folder/secret"
docker_run "$folder"
check "… which others can read: exit 2" exited 2
check "… with the cure" said "chmod 600"
options=()

folder=$(new_folder terminal)
with_tokens "$folder" 1000:1000
echo 'GHL_AUTH_LANG="pt-BR" # o idioma' >> "$folder/.env"
container=$(b from "$image")
mapfile -d '' environment < <(docker_env "$folder/.env")
printf -v line '%q ' buildah --root "$kept/storage" --runroot "$work/run" --storage-driver "$driver" \
    run --isolation chroot --terminal "${environment[@]/#/--env=}" \
    --volume "$folder/ghl_tokens.json:/app/ghl_tokens.json" "$container" -- "${image_entrypoint[@]}" "${image_command[@]}"
exit=0
script --quiet --return --command "$line" /dev/null > "$work/out" 2>&1 < /dev/null || exit=$?
b rm "$container" > /dev/null
check "with a terminal (-it), in Portuguese: the check is operational" exited 0
for sentence in "Access Token expirado. Renovando..." "Token renovado e salvo." "Testando chamada à API de Contatos..." \
    "Tentativa 1/2..." "Chamada à API de Contatos bem-sucedida." \
    "Microserviço operacional. Notificação de saúde disparada via tag."; do
    check "… \"$sentence\"" said "$sentence"
done

folder=$(new_folder nothing)
: > "$folder/.env"
touch "$folder/ghl_tokens.json"
docker_run "$folder"
check "no settings at all: exit 2" exited 2
check "… and one error lists what is missing" said "GHL_CLIENT_SECRET="
docker_run "$folder" demo --once
check "the demo runs in the image" exited 0

## Read-only, process 1, hardly any rights

folder=$(new_folder strict)
with_tokens "$folder" 1000:1000
chown 1000:1000 "$folder/.env"
strict_run "$folder"
check "a read-only root, tokens of user 1000: the check is operational" exited 0
check "… the file is still user 1000's, mode 0600, current" kept_well "$folder" 1000:1000
check "… and that a single file is rewritten in place is said" said "rewritten in place"

folder=$(new_folder strict-root)
with_tokens "$folder" 0:0
strict_run "$folder"
check "a read-only root, tokens of root: the check is operational" exited 0
check "… the file is still root's, mode 0600, current" kept_well "$folder" 0:0
check "… and says once that it stays root" [ "$(grep -c "keeps running as root" "$work/out")" = 1 ]

## The service of compose.yaml

folder=$(new_folder service)
cp -a "$work/volume" "$folder/data"
(umask 077 && head -c 32 /dev/urandom | base64 > "$folder/ghl_auth_key")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf '%s\n' GHL_STORE=sqlite:/data/ghl-auth.db GHL_AUTH_KEY_FILE=/run/secrets/ghl_auth_key \
    "GHL_AUTH_LISTEN=127.0.0.1:$port" >> "$folder/.env"
strict_serve "$work/out" "$folder" login --code "$(new_code)"
check "the service's volume: a login puts the tokens there" exited 0
(strict_serve "$work/served" "$folder" serve; echo "$exit" > "$work/serve.exit") &
serve_process=$!
for _ in {1..50}; do
    strict_serve "$work/out" "$folder" serve --probe
    [ "$exit" != 0 ] || break
    sleep 0.2
done
check "… and the service on it turns healthy" exited 0
strict_serve "$work/out" "$folder" keys create --name test --all
check "… a key is made beside it" exited 0
key=$(grep -o 'ghlk_[A-Za-z0-9_-]*' "$work/out" | tail -n 1)
location=$(sed -n 's/^GHL_LOCATION_ID="\(.*\)".*/\1/p' "$folder/.env")
# A new key is known within a second.
for _ in {1..50}; do
    ! curl -fsS -H "Authorization: Bearer $key" "http://127.0.0.1:$port/v1/locations/$location/token" > "$work/out" 2>&1 \
        || break
    sleep 0.1
done
check "… with which it gives a token that HighLevel takes" grep -q '"access_token_is_valid": *true' <(
    curl -fsS "$sandbox/_sandbox/judge" -d "{\"access_token\":\"$(member "$work/out" access_token)\"}"
)
check "… and everything on the volume is nobody else's" [ -z "$(find "$folder/data" ! -uid 65532)" ]
# unshare, and its child, which is process 1 in there.
children() { cat "/proc/$1/task/$1/children"; }
# shellcheck disable=SC2046  # a number and a space
kill -TERM $(children $(children "$serve_process"))
wait "$serve_process"
cp "$work/served" "$work/out"
check "… asked to stop, it ends well" [ "$(cat "$work/serve.exit")" = 0 ]

## Names, in a root that has nothing but a resolv.conf

serve_names
folder=$(new_folder names)
with_tokens "$folder" 1000:1000
sed -i "s|^GHL_API_BASE_URL=.*|GHL_API_BASE_URL=https://highlevel.test:${sandbox##*:}|" "$folder/.env"
strict_run "$folder"
check "a name is looked up in DNS" grep -qx 'highlevel.test 1' "$work/asked"
check "… and its address is talked to, over TLS, which the sandbox doesn't speak" not said "lookup"
check "… so the check exits 4" exited 4
sed -i "s|highlevel.test|nobody.test|" "$folder/.env"
strict_run "$folder"
check "a name that nobody has: exit 4" exited 4
check "… and the name server's answer is told" said "lookup"

## Start-up

folder=$(new_folder quick)
with_tokens "$folder" 0:0
exit=0
(cd "$folder" && "$work/ghl-auth" check) > "$work/out" 2>&1 || exit=$?
check "the same program runs on the host" exited 0
millis=$(cd "$folder" && cpu_millis "$work/ghl-auth" check)
check "a check costs at most 30 ms of CPU ($millis): the entropy setting reached the build" [ "${millis%.*}" -lt 30 ]

tallied
