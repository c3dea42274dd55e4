#!/bin/bash
# Tells cron to run run_ghl_check.sh every RUN_INTERVAL_HOURS; run it again after changing them.
# Configura o cron para rodar run_ghl_check.sh a cada RUN_INTERVAL_HOURS; rode de novo se mudar.
#
# One line of this user's crontab is ours, and only that one is ever changed.
# (`ghl-auth schedule install` does the same for the program without these scripts.)
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

# The value of a name in .env, which is read and never run: it may hold anything.
from_env() { # NAME
    [ -f .env ] || return 0
    sed -n -e $'1s/^\xEF\xBB\xBF//' -e 's/\r$//' \
        -e "s/^[[:space:]]*\(export[[:space:]][[:space:]]*\)\{0,1\}$1[[:space:]]*=[[:space:]]*//p" .env | tail -n 1 \
        | sed -e 's/^"\([^"]*\)".*/\1/; t' -e "s/^'\([^']*\)'.*/\1/; t" \
            -e 's/^#.*//; s/[[:space:]]#.*//; s/[[:space:]]*$//'
}

language=${GHL_AUTH_LANG:-$(from_env GHL_AUTH_LANG)}
language=${language:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}}

say() { # ENGLISH PORTUGUESE
    case ${language,,} in
        pt*) echo "$2" ;;
        *) echo "$1" ;;
    esac
}

fail() { # ENGLISH PORTUGUESE
    say "$1" "$2" >&2
    exit 1
}

# A path for cron: quoted for the shell behind it, with % escaped, which cron takes for a line's end.
quoted() { # PATH
    local path=$1
    case $path in
        *[!A-Za-z0-9/._@+-]*) path="'${path//\'/\'\\\'\'}'" ;;
    esac
    printf '%s' "${path//%/\\%}"
}

[ -f .env ] || fail "Error: no .env here, in $PWD. cron could not be set up." \
    "Erro: Arquivo .env nao encontrado. Nao foi possivel configurar o cron."
script=$PWD/run_ghl_check.sh
[ -f "$script" ] || fail "Error: no run_ghl_check.sh here, in $PWD." \
    "Erro: run_ghl_check.sh nao encontrado em $PWD."
[ "$PWD" = "${PWD//$'\n'/}" ] || fail "Error: a folder with a line break in its name can't be in a crontab." \
    "Erro: Uma pasta com quebra de linha no nome nao pode estar num crontab."
[ -x "$script" ] || chmod +x "$script"

hours=$(from_env RUN_INTERVAL_HOURS)
hours=${hours:-12}
case $hours in
    24) times='0 0 * * *' ;;
    1 | 2 | 3 | 4 | 6 | 8 | 12) times="0 */$hours * * *" ;;
    *) fail "Error: RUN_INTERVAL_HOURS '$hours' is nothing that cron can keep from one day to the next.
Please use a divisor of 24: 1, 2, 3, 4, 6, 8, 12 or 24." \
        "Erro: RUN_INTERVAL_HOURS '$hours' invalido para agendamento simples de cron.
Por favor, use um divisor de 24 (ex: 1, 2, 3, 4, 6, 8, 12, 24)." ;;
esac

# Where this user can't write to /var/log, cron could not even start a line that does.
log=/var/log/ghl_auth_check.log
{ true >> "$log"; } 2> /dev/null || log=$PWD/ghl_auth_check.log
job="$times $(quoted "$script") >> $(quoted "$log") 2>&1"

say "Setting cron up to run every $hours hours." "Configurando cron job para rodar a cada $hours horas."
say "The line for cron: '$job'" "Linha do cron gerada: '$job'"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
before=$work/before
after=$work/after

# "No crontab" is the one failure that means an empty one; after any other, nothing is written.
if ! LC_ALL=C crontab -l > "$before" 2> "$work/complaint"; then
    grep -q '^no crontab for' "$work/complaint" \
        || fail "Error: the crontab can't be read, so it stays as it is: $(cat "$work/complaint")" \
            "Erro: O crontab nao pode ser lido, entao fica como esta: $(cat "$work/complaint")"
    : > "$before"
fi
# Debian's `crontab -l` writes a carriage return as the two characters \r. An editor is given the
# file itself; this one changes nothing.
if grep -aqF '\r' "$before"; then
    # shellcheck disable=SC2016  # the editor's $1
    printf '#!/bin/sh\ncp "$1" "%s/whole" && mv "%s/whole" "%s"\n' "$work" "$work" "$before" > "$work/editor"
    chmod +x "$work/editor"
    VISUAL=$work/editor crontab -e < /dev/null > /dev/null 2>&1 || true
fi

# Our line is the one whose command begins with our script; the new one takes its place.
LC_ALL=C SCRIPT=$script QUOTED=$(quoted "$script") JOB=$job awk '
    function is_ours(line, word) {
        if (line ~ /^[ \t]*#/) return 0
        if (!match(line, /^[ \t]*(@[a-z]+|[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+)[ \t]+/)) return 0
        line = substr(line, RLENGTH + 1) " "
        for (word = 1; word <= 2; word++)
            if (index(line, (word == 1 ? ENVIRON["SCRIPT"] : ENVIRON["QUOTED"]) " ") == 1) return 1
        return 0
    }
    !is_ours($0) { print; next }
    !placed { print ENVIRON["JOB"]; placed = 1 }
    END { if (!placed) print ENVIRON["JOB"] }
' "$before" > "$after"

if ! cmp -s "$before" "$after"; then
    crontab "$after" || fail "Error: cron did not take the new crontab; the old one stays." \
        "Erro: O cron nao aceitou o novo crontab; o anterior fica."
fi

say "cron is set up." "Cron job configurado com sucesso!"
say "To see it: crontab -l" "Para verificar, digite: crontab -l"
say "To see the log: tail -f $log" "Para ver os logs, digite: tail -f $log"
