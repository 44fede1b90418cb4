#!/bin/sh
# Installs the named Debian packages that are missing, when root and on a Debian-like system.
# Otherwise it says what is missing and leaves: whoever needs the program decides what that means.
set -eu

missing=""
for package in "$@"; do
    command -v "$package" >/dev/null 2>&1 && continue
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' && continue
    missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed (needs root and apt-get):$missing" >&2
    exit 0
fi

echo "installing Debian packages:$missing"
# A package must bring its program, not start a service: the answer 101 forbids that to its scripts.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086  # one word per package
if ! { apt-get -q -o Acquire::Retries=3 update &&
    apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 \
        install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
for package in $missing; do # nor at the next boot
    [ ! -e "/etc/init.d/$package" ] || update-rc.d "$package" disable
done
