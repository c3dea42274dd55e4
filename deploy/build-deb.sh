#!/bin/bash
# Makes a Debian package of a built ghl-auth, with dpkg-deb alone.
#
#   deploy/build-deb.sh BINARY [WHERE-TO]      default: ./ghl-auth_VERSION_ARCHITECTURE.deb
#   DEB_REVISION=2 deploy/build-deb.sh …       another package of the same version; 1 without it
#   DEBFULLNAME=… DEBEMAIL=…                   who makes it, as for Debian's other tools
#
# BINARY has to run on this machine: it prints its own manual pages and completions. The one that
# deploy/build-static.sh makes runs on any Debian. With SOURCE_DATE_EPOCH set, the same program gives the
# same package, byte for byte.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8

binary=$(realpath -- "${1:?usage: deploy/build-deb.sh BINARY [WHERE-TO]}")
to=${2:-}
[ -z "$to" ] || to=$(realpath -m -- "$to")
here=$PWD
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

version=$("$binary" --version | sed 's/.* //')-${DEB_REVISION:-1}
maintainer="${DEBFULLNAME:-The authors of ghl-auth} <${DEBEMAIL:-ghl-auth@localhost}>"
architecture=$(dpkg --print-architecture)
[ -n "$to" ] || to=$here/ghl-auth_${version}_$architecture.deb
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date +%s)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
put() { # MODE FILE: what comes in, there
    mkdir -p "$root/${2%/*}"
    cat > "$root/$2"
    chmod "$1" "$root/$2"
}

## The program, and what it says of itself in both languages

install -D -m 755 "$binary" "$root/usr/bin/ghl-auth"

# From a folder without an .env, and without this user's settings.
says() { # LANGUAGE ARGUMENT…
    local language=$1
    shift
    (cd "$work" && env -i GHL_AUTH_LANG="$language" "$binary" "$@")
}
says en completions bash | put 644 usr/share/bash-completion/completions/ghl-auth
says en completions zsh | put 644 usr/share/zsh/vendor-completions/_ghl-auth
says en completions fish | put 644 usr/share/fish/vendor_completions.d/ghl-auth.fish
says en man | gzip -9n | put 644 usr/share/man/man1/ghl-auth.1.gz
says pt-BR man | gzip -9n | put 644 usr/share/man/pt_BR/man1/ghl-auth.1.gz

## The service, as deploy/systemd has it, under a user of its own

# What root and the service both write needs an owner that stays, so there is no DynamicUser here. The
# condition is why nothing starts, and nothing starts again and again, before there is an app.
# (The + has root look, who may read the file: not every systemd gives a condition the credentials.)
condition='ExecCondition=+/bin/grep -qE "^[[:space:]]*(export[[:space:]]+)?GHL_([A-Z0-9_]+_)?(CLIENT_ID|PRIVATE_TOKEN(_FILE)?)[[:space:]]*=" /etc/ghl-auth/env'
awk -v condition="$condition" '
    /^\[Unit\]$/ { begun = 1 }
    !begun { next }
    /^ExecStart=/ {
        print "# It does not start before /etc/ghl-auth/env names an app or a private integration token."
        print condition
        sub("/usr/local/bin/", "/usr/bin/")
    }
    /^DynamicUser=yes$/ { print "User=ghl-auth"; print "Group=ghl-auth"; next }
    { print }
' deploy/systemd/ghl-auth.service | put 644 usr/lib/systemd/system/ghl-auth.service

# Its settings: .env.example with every line switched off, but for where the package keeps the store.
{
    cat << 'END'
# The settings of ghl-auth. Fill in your app's; then: systemctl enable --now ghl-auth
# As configurações do ghl-auth. Preencha as do seu aplicativo; depois: systemctl enable --now ghl-auth
#
# What this package has set up. Keep a copy of the key elsewhere: nothing else opens the store.
# O que este pacote preparou. Guarde uma cópia da chave em outro lugar: nada mais abre o armazenamento.
GHL_STORE=sqlite:/var/lib/ghl-auth/ghl-auth.db
GHL_AUTH_KEY_FILE=/etc/ghl-auth/auth-key

END
    sed -e '1,3d' -e '/^#$/d' -e 's/^[A-Z]/# &/' -e '/^# GHL_STORE=/d' -e '/^# GHL_AUTH_KEY_FILE=/d' .env.example
} | put 600 etc/ghl-auth/env

## The papers

put 644 usr/share/doc/ghl-auth/copyright << 'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ghl-auth

Files: *
Copyright: the authors of ghl-auth
License: MIT or Apache-2.0

License: Apache-2.0
 On Debian systems, the text of the Apache License, Version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.

END
{
    echo 'License: MIT'
    sed -e 's/^$/./' -e 's/^/ /' LICENSE-MIT
} >> "$root/usr/share/doc/ghl-auth/copyright"

put 644 usr/share/doc/ghl-auth/README.Debian << 'END'
ghl-auth on Debian
==================

1. Write your app's credentials into /etc/ghl-auth/env (each line is explained there).
2. Authorize once, as root:  ghl-auth --env-file /etc/ghl-auth/env login
3. Start the service:        systemctl enable --now ghl-auth
4. See how it is:            ghl-auth --env-file /etc/ghl-auth/env status

Started as root, the program becomes the user ghl-auth, whom the store in /var/lib/ghl-auth belongs to.
The store is sealed with /etc/ghl-auth/auth-key, which was made at the installation: keep a copy
elsewhere. `apt purge` removes the settings, and neither a store nor the key that opens it.

ghl-auth no Debian
==================

1. Escreva as credenciais do seu aplicativo em /etc/ghl-auth/env (cada linha está explicada ali).
2. Autorize uma vez, como root:  ghl-auth --env-file /etc/ghl-auth/env login
3. Inicie o serviço:             systemctl enable --now ghl-auth
4. Veja como está:               ghl-auth --env-file /etc/ghl-auth/env status

Iniciado como root, o programa assume o usuário ghl-auth, dono do armazenamento em /var/lib/ghl-auth.
O armazenamento é lacrado com /etc/ghl-auth/auth-key, criada na instalação: guarde uma cópia em outro
lugar. `apt purge` remove as configurações, mas nem um armazenamento nem a chave que o abre.
END

gzip -9n << END | put 644 usr/share/doc/ghl-auth/changelog.Debian.gz
ghl-auth ($version) stable; urgency=medium

  * The program of this version; CHANGELOG.md in changelog.gz says what is new.

 -- $maintainer  $(date -Rud "@$SOURCE_DATE_EPOCH")
END
gzip -9nc CHANGELOG.md | put 644 usr/share/doc/ghl-auth/changelog.gz

# SQLite is built in, as the program needs it; static, it needs nothing of the system.
put 644 usr/share/lintian/overrides/ghl-auth << 'END'
ghl-auth: embedded-library
ghl-auth: statically-linked-binary
ghl-auth: initial-upload-closes-no-bugs
# It holds a client secret.
ghl-auth: non-standard-file-perm * [etc/ghl-auth/env]
END

## What dpkg is told

# The oldest libc that has what the program asks for; a static one asks for none.
depends=adduser
if head -c 4096 "$binary" | grep -qa '/ld-linux'; then
    libc=$(grep -aoE 'GLIBC_2\.[0-9]+' "$binary" | sort -uV | tail -n 1)
    depends="adduser, libc6 (>= ${libc#GLIBC_}), libgcc-s1"
fi

put 644 DEBIAN/control << END
Package: ghl-auth
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$root" | cut -f 1)
Depends: $depends
Recommends: ca-certificates
Section: net
Priority: optional
Description: keeps connections to GoHighLevel alive
 Keeps the OAuth grants of GoHighLevel (HighLevel) apps alive, proves by a
 check that they are, and hands valid tokens to the programs that need them.
 .
 The package brings the service with a user of its own. It is not started
 before it is configured.
END
echo /etc/ghl-auth/env | put 644 DEBIAN/conffiles

put 755 DEBIAN/postinst << 'END'
#!/bin/sh
set -e

if [ "$1" = configure ]; then
    if ! getent passwd ghl-auth > /dev/null; then
        adduser --quiet --system --group --home /var/lib/ghl-auth --no-create-home ghl-auth
    fi
    if ! [ -e /var/lib/ghl-auth ]; then
        install -d -m 700 -o ghl-auth -g ghl-auth /var/lib/ghl-auth
    fi
    # The key is made once. It is no part of the settings, so that a purge doesn't take it from its store.
    key=/etc/ghl-auth/auth-key
    if ! [ -e "$key" ]; then
        (umask 077 && head -c 32 /dev/urandom | base64 > "$key.new")
        chown ghl-auth:ghl-auth "$key.new"
        mv "$key.new" "$key"
    fi
    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload > /dev/null || true
        # A service that runs goes on with the new program; one that does not is left alone.
        if [ -n "$2" ]; then
            deb-systemd-invoke try-restart ghl-auth.service > /dev/null || true
        fi
    fi
fi
END

put 755 DEBIAN/prerm << 'END'
#!/bin/sh
set -e

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop ghl-auth.service > /dev/null || true
fi
END

put 755 DEBIAN/postrm << 'END'
#!/bin/sh
set -e

if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload > /dev/null || true
fi
if [ "$1" = purge ]; then
    wanted=/etc/systemd/system/multi-user.target.wants/ghl-auth.service
    if [ -L "$wanted" ] && ! [ -e "$wanted" ]; then
        rm -f "$wanted"
    fi
    if rmdir /var/lib/ghl-auth 2> /dev/null || ! [ -e /var/lib/ghl-auth ]; then
        rm -f /etc/ghl-auth/auth-key
        if getent passwd ghl-auth > /dev/null && command -v deluser > /dev/null; then
            deluser --quiet --system ghl-auth > /dev/null || true
        fi
    else
        echo "ghl-auth: the store in /var/lib/ghl-auth stays, and so do its owner and /etc/ghl-auth/auth-key, which opens it." >&2
    fi
    rmdir /etc/ghl-auth 2> /dev/null || true
fi
END

(cd "$root" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum | grep -v '  etc/') | put 644 DEBIAN/md5sums

# Built in the same order and at the same time, it is the same package.
find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "${to%/*}"
dpkg-deb --root-owner-group -Zxz --build "$root" "$to" > /dev/null
echo "$to"
