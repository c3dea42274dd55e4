# shellcheck shell=bash disable=SC2034,SC2154  # it shares its names with whoever sources it
# To be sourced: what the scripts beside it begin with. Whoever uses `begin_sandbox` ends $sandbox_process.
#
#   find_program [GHL-AUTH]            the program under test, in $program; else of the last build
#   begin_sandbox PROGRAM              in $work; its address is in $sandbox, its process in $sandbox_process
#   consented                          a code, as HighLevel gives it once someone has agreed
#   awaited FILE PATTERN               the last word of what stands there once it does
#   check WHAT CONDITION…              one line of the tally; what was said is shown where it fails
#   tallied                            how many there were, and whether all was well
#   install_for_node SOURCES [MORE…]   what SOURCES/package-lock.json names, once, in $tools; with MORE, `complete_tools`
#                                      is asked to put more there

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repository/target}
sandbox_process=
passed=0
failed=0

find_program() {
    program=${1:-}
    local built
    for built in release debug; do
        [ -n "$program" ] || ! [ -x "$target/$built/ghl-auth" ] || program=$target/$built/ghl-auth
    done
    program=$(realpath "$program")
}

awaited() {
    local found
    for _ in {1..200}; do
        found=$(grep -oE "$2" "$1" | head -n 1 || true)
        [ -z "$found" ] || break
        sleep 0.1
    done
    [ -n "$found" ] || { cat "$1" >&2; return 1; }
    echo "${found##* }"
}

begin_sandbox() {
    : > "$work/sandbox.log"
    (cd "$work" && exec "$1" sandbox --listen 127.0.0.1:0) > "$work/sandbox.log" 2>&1 &
    sandbox_process=$!
    sandbox=$(awaited "$work/sandbox.log" 'http://127[0-9.:]*')
}

consented() {
    curl -fsS "$sandbox/_sandbox/approve" -d '{"redirect_uri":"http://127.0.0.1:8788/oauth/callback"}' \
        | sed -E 's/.*"code": *"([^"]*)".*/\1/'
}

check() {
    local what=$1
    shift
    if "$@" > "$work/seen" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $what"
    else
        failed=$((failed + 1))
        echo "FAILED  $what"
        # What the condition said, and what was looked at.
        head -qn 20 "$work/seen" "$work/out" 2> /dev/null | cut -c1-180 | sed 's/^/        | /' || true
    fi
}

tallied() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

# What is installed is named by what was asked for, so that other versions are installed anew.
install_for_node() {
    local sources=$1 asked
    shift
    asked=$(cat "$sources/package-lock.json" "$@" | sha256sum | cut -c 1-12)
    tools=$target/tools/$(basename "$sources")-$asked
    [ ! -e "$tools/complete" ] || return 0
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$sources/package.json" "$sources/package-lock.json" "$tools"
    (cd "$tools" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    [ $# -eq 0 ] || complete_tools
    touch "$tools/complete"
}
