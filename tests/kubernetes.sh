#!/bin/bash
# Holds the manifests in deploy/kubernetes/ to Kubernetes' published schemas, to each other, and to the
# program: it is started with their arguments, variables and files, as a pod would start it.
#
#   tests/kubernetes.sh [GHL-AUTH]        default: ghl-auth of the last build
#
# As root, the program runs as the user that the manifests name.
set -euo pipefail
umask 022

# shellcheck source=tests/start.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/start.sh"
manifests=$repository/deploy/kubernetes
find_program "${1:-}"

# The first of these is the oldest that the README names, the last the newest that the tool knows.
kubernetes=(1.30 1.34 1.37)
version=1.37.0
tool=$target/tools/kubernetes-validate-$version
if ! [ -x "$tool/bin/kubernetes-validate" ]; then
    mkdir -p "$target/tools"
    if ! { python3 -m venv "$tool" && "$tool/bin/pip" -q install "kubernetes-validate==$version"; }; then
        rm -rf "$tool"
        exit 1
    fi
fi

work=$(mktemp -d)
chmod 711 "$work"
service=
# shellcheck disable=SC2317  # called by the trap
clean_up() {
    [ -z "$service" ] || kill "$service" 2> /dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

not() { ! "$@"; }

valid() { # VERSION FILE…
    local against=$1
    shift
    "$tool/bin/kubernetes-validate" --strict --quiet -k "$against" "$@"
}

broken() { # FILE EXPRESSION: the file, changed so, is refused
    sed "$2" "$manifests/$1" > "$work/broken.yaml"
    not cmp "$manifests/$1" "$work/broken.yaml" && not valid "${kubernetes[-1]}" "$work/broken.yaml"
}

for against in "${kubernetes[@]}"; do
    check "the schemas of Kubernetes $against take every manifest" \
        valid "$against" "$manifests"/*.yaml "$manifests"/*.example
done
check "… and refuse a number that is a word" broken deployment.yaml 's/replicas: 2/replicas: two/'
check "… a name that there is not" broken deployment.yaml 's/readinessProbe:/readynessProbe:/'
check "… a port without a number" broken services.yaml 's/port: 8787, //'
check "… a list that is a word" broken networkpolicy.yaml 's/\[Ingress\]/Ingress/'

# How the manifests fit together, and what the program is started with.
cat > "$work/read.py" << 'END'
import pathlib, re, shlex, sys, yaml

folder, example, work = map(pathlib.Path, sys.argv[1:])
found = {}
for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.example")]):
    for document in yaml.safe_load_all(path.read_text()):
        found[document["kind"], document["metadata"]["name"]] = document
        assert "namespace" not in document["metadata"], path
spec = found["Deployment", "ghl-auth"]["spec"]
pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
[container] = pod["containers"]

known = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", example.read_text(), re.M))
settings = found["ConfigMap", "ghl-auth"]["data"]
named = {one["name"]: one["value"] for one in container["env"]}
unknown = (settings.keys() | named.keys()) - known - {"CREDENTIALS_DIRECTORY"}
assert not unknown, f"no such variable: {unknown}"
commented = set(re.findall(r"^  # ([A-Z][A-Z0-9_]+):", (folder / "configmap.yaml").read_text(), re.M))
assert commented and commented <= known, commented - known

mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
volumes = {one["name"]: one for one in pod["volumes"]}
assert mounts.keys() == volumes.keys()
credentials = mounts["credentials"]
assert named["CREDENTIALS_DIRECTORY"] == credentials
secrets = {one["secret"]["name"] for one in volumes["credentials"]["projected"]["sources"]}
files = set(found["Secret", "ghl-auth"]["stringData"]) | {"tls.crt", "tls.key"}
assert secrets == {"ghl-auth", "ghl-auth-tls"}
asked = {path.removeprefix(credentials + "/") for name, path in named.items() if name != "CREDENTIALS_DIRECTORY"}
assert asked == files, asked ^ files
for name, placeholder in found["Secret", "ghl-auth"]["stringData"].items():
    assert placeholder.startswith("<") and placeholder.endswith(">"), name
# What is secret stands in no variable.
assert not {name for name in settings if f"{name}_FILE" in known}
assert container["workingDir"] == mounts["spool"] and "emptyDir" in volumes["spool"]

ports = {one["name"]: one["containerPort"] for one in container["ports"]}
for name, variable in (("private", "GHL_AUTH_LISTEN"), ("public", "GHL_AUTH_PUBLIC_LISTEN")):
    assert settings[variable].endswith(f":{ports[name]}"), variable
for (kind, name), document in found.items():
    if kind == "Service":
        assert document["spec"]["selector"] == labels, name
        assert {port["targetPort"] for port in document["spec"]["ports"]} < ports.keys(), name
        assert name in settings["GHL_AUTH_HOSTS"].split(","), name
private = {port["targetPort"] for port in found["Service", "ghl-auth"]["spec"]["ports"]}
public = {port["targetPort"] for port in found["Service", "ghl-auth-public"]["spec"]["ports"]}
assert (private, public) == ({"private"}, {"public"})
budget = found["PodDisruptionBudget", "ghl-auth"]["spec"]
policy = found["NetworkPolicy", "ghl-auth"]["spec"]
[spread] = pod["topologySpreadConstraints"]
for selector in (spec["selector"], budget["selector"], policy["podSelector"], spread["labelSelector"]):
    assert selector["matchLabels"] == labels
for rule in policy["ingress"]:
    named_ports = {port["port"] for port in rule["ports"]}
    assert named_ports == ({"private"} if "from" in rule else {"public"}), rule
assert spec["replicas"] > budget["minAvailable"] >= 1
assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
assert pod["terminationGracePeriodSeconds"] >= pause + 60 + 5

bounds, own = pod["securityContext"], container["securityContext"]
user, group = bounds["runAsUser"], bounds["runAsGroup"]
assert bounds["runAsNonRoot"] and user > 0 and bounds["fsGroup"] == group
assert bounds["seccompProfile"]["type"] == "RuntimeDefault"
assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False
assert own["capabilities"] == {"drop": ["ALL"]}
assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
mode = volumes["credentials"]["projected"]["defaultMode"]
assert mode == 0o440

# In the pod's place: the same variables, with folders and ports of the test's own.
def moved(value):
    value = value.replace(credentials, str(work / "credentials")).replace("0.0.0.0:", "127.0.0.1:")
    return re.sub(r"^(127\.0\.0\.1):\d+$", r"\1:0", value)
lines = [f"{name}={moved(value)}" for name, value in (settings | named).items()]
(work / "variables").write_text("\0".join(lines))
(work / "arguments").write_text("\0".join(container["args"]))
probes = []
for name in ("startupProbe", "livenessProbe", "readinessProbe"):
    get = container[name]["httpGet"]
    assert get["scheme"] == "HTTPS" and get["port"] == "private"
    [host] = [one["value"] for one in get["httpHeaders"] if one["name"] == "Host"]
    probes.append(f"{name} {get['path']} {host}\n")
(work / "probes").write_text("".join(probes))
for name, placeholder in found["Secret", "ghl-auth"]["stringData"].items():
    (work / f"placeholder-{name}").write_text(placeholder)
(work / "facts").write_text(f"{user} {group} {mode:o}\n")
END
check "they fit each other, and name variables, files, ports and rights as they ought to" \
    "$tool/bin/python" "$work/read.py" "$manifests" "$repository/.env.example" "$work"
[ "$failed" = 0 ] || exit 1
read -r user group mode < "$work/facts"
mapfile -d '' -t variables < "$work/variables"
mapfile -d '' -t arguments < "$work/arguments"

# A volume of secrets as the kubelet makes it: links into a folder that is replaced as a whole.
data=$work/credentials/..2026_11_25
mkdir -p "$data" "$work/spool"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN=ghl-auth \
    -addext subjectAltName=DNS:ghl-auth -keyout "$data/tls.key" -out "$data/tls.crt" 2> "$work/out"
as=()
if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid "$user" --regid "$group" --clear-groups)
    chgrp "$group" "$work/credentials" "$work/spool"
fi
chmod 3777 "$work/credentials"
chmod 2777 "$work/spool"
ln -s ..2026_11_25 "$work/credentials/..data"
for name in auth-key client-secret store tls.crt tls.key; do
    ln -s "..data/$name" "$work/credentials/$name"
done
fill() { # KEY STORE
    # A file of another's is taken away to be written.
    rm -f "$data"/{auth-key,client-secret,store}
    printf '%s' "$1" > "$data/auth-key"
    printf 'a-client-secret' > "$data/client-secret"
    printf '%s' "$2" > "$data/store"
    [ "$(id -u)" != 0 ] || chgrp "$group" "$data"/*
    chmod "$mode" "$data"/*
}
install -m 755 "$program" "$work/ghl-auth"

start() { # NAME=VALUE…: beside those of the manifests
    cd "$work/spool"
    exec "${as[@]}" env -i "${variables[@]}" GHL_AUTH_LANG=en GHL_API_BASE_URL=http://127.0.0.1:9 "$@" \
        "$work/ghl-auth" "${arguments[@]}"
}
refused() { # WORDS NAME=VALUE…
    local words=$1
    shift
    (start "$@") > "$work/refused" 2>&1 &
    service=$!
    timeout 20 tail --pid="$service" -f /dev/null || { kill "$service"; return 1; }
    wait "$service" && return 1
    service=
    cat "$work/refused"
    grep -q "$words" "$work/refused"
}

fill "$(cat "$work/placeholder-auth-key")" "$(cat "$work/placeholder-store")"
check "the program refuses the placeholder of the key" refused 'GHL_AUTH_KEY'
check "… and that of the store" refused 'GHL_STORE'
fill "$(openssl rand -base64 32)" sqlite:tokens/ghl-auth.db
"${as[@]}" mkdir -m 700 "$work/spool/tokens"
for folder in '' /elsewhere; do
    check "files that their group may read are refused with CREDENTIALS_DIRECTORY=$folder" \
        refused 'GHL_AUTH_KEY' "CREDENTIALS_DIRECTORY=$folder"
done

(start) > "$work/serve.log" 2>&1 &
service=$!
address() { # WORDS
    local found
    for _ in {1..200}; do
        found=$(sed -n "s|.*$1: \(https\{0,1\}://[0-9.:]*\).*|\1|p" "$work/serve.log")
        [ -z "$found" ] || break
        sleep 0.05
    done
    [ -n "$found" ] || { cat "$work/serve.log" >&2; return 1; }
    echo "$found"
}
private=$(address 'Programs ask here')
public=$(address 'Browsers come back here')
answers() { # STATUS URL OPTION…
    local status=$1 url=$2 given
    shift 2
    given=$(curl -sk -o /dev/null -w '%{http_code}' "$@" "$url")
    echo "$given"
    [ "$given" = "$status" ]
}
while read -r probe path host; do
    check "$probe: $path is answered" answers 200 "$private$path" -H "Host: $host"
done < "$work/probes"
check "a probe by the pod's address would not be" answers 421 "$private/livez" -H 'Host: 10.1.2.3:8787'
check "a program asks by the Service's name, and needs a key" \
    answers 401 "$private/v1/installations" -H 'Host: ghl-auth:8787'
check "with the certificate of that name" curl -fsS --cacert "$data/tls.crt" \
    --connect-to "ghl-auth:8787:${private#https://}" https://ghl-auth:8787/livez
check "the public port has no API" answers 404 "$public/v1/installations" -H 'Host: ghl-auth-public'
check "it is no one else than the manifests say" \
    bash -c "[ \$(id -u) != 0 ] || [ \$(stat -c %u /proc/$service) = $user ] || grep -q '^Uid:[[:space:]]*$user' /proc/$service/status"
kill "$service"
ended() { wait "$service"; }
check "it ends well when it is asked to" ended
service=

tallied
