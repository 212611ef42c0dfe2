#!/bin/sh
# Starts Miyabi Healing in an environment of its own. The first start makes it from requirements/runner.txt; the later
# ones only compare that file with the copy inside the environment.
set -e

stop() {
    printf 'miyabi-healing: %s\n' "$1" >&2
    exit 3
}

is_made() {
    [ -x "$venv/bin/python" ] && cmp -s "$lock" "$venv/runner.txt" 2>/dev/null
}

# What we are about to execute as root, and all on the way there, that others could exchange: what is neither root's nor
# theirs whose project this is (who could change this very file), or what a group or everybody can write.
changeable_by_others() {
    [ -O / ] || [ "$(id -u)" = 0 ] || return 0 # in a user namespace the top may be nobody's
    set -- "$1" "$1/bin" "$1/bin/python" "$1/lib" "$1/pyvenv.cfg"
    up=$1
    while [ "$up" ]; do
        up=${up%/*}
        set -- "$@" "${up:-/}"
    done
    for user in 0 project; do
        if [ "$user" = project ]; then
            user=$(ls -dn "$root/self_healer.py" | (read -r _ _ user _ && echo "$user"))
        fi
        found=$(find "$@" -prune \( ! -user 0 ! -user "$user" -o \
            ! -type l \( -perm -002 ! -perm -1000 -o -user 0 -perm -020 ! -group 0 \) \) 2>/dev/null)
        [ "$found" ] || return 0
    done
    echo "$found" | head -n 1
}

# macOS has no readlink -f: follow the links to this file one by one.
case $0 in
    */*) self=$0 ;;
    *) self=./$0 ;;
esac
[ -e "$self" ] || self=$(command -v -- "$0") # bash looks for its scripts along PATH too
while [ -h "$self" ]; do
    target=$(readlink "$self")
    case $target in
        /*) self=$target ;;
        *) self=${self%/*}/$target ;;
    esac
done
root=$(CDPATH='' cd -P -- "${self%/*}/" && pwd -P)
lock=$root/requirements/runner.txt
venv=$root/.venv

# Where no disk has room, say: a folder of our own on one that has, /dev/shm perhaps.
if [ "${MIYABI_HEALING_ENVIRONMENT:-}" ]; then
    case $MIYABI_HEALING_ENVIRONMENT in
        /*) venv=${MIYABI_HEALING_ENVIRONMENT%/}/.venv ;;
        *) stop "MIYABI_HEALING_ENVIRONMENT must be an absolute path, not $MIYABI_HEALING_ENVIRONMENT" ;;
    esac
    # what lies beside it is written to as well: nobody else may have put it there
    cache=${venv%/*}
    mkdir -p -m 700 "$cache" 2>/dev/null || :
    if [ ! -O "$cache" ] || [ -h "$cache" ]; then
        stop "$cache is no folder of your own, or cannot be made; name another one in MIYABI_HEALING_ENVIRONMENT"
    fi
elif ! is_made; then
    # Where .venv cannot be made, or is somebody's own, the cache holds one for each place the project is in.
    if [ ! -w "$root" ] || { [ -e "$venv" ] && [ ! -e "$venv/runner.txt" ]; }; then
        case ${XDG_CACHE_HOME:-} in
            /*) cache=$XDG_CACHE_HOME ;;
            *) cache=${HOME:-$(eval "printf %s ~$(id -un 2>/dev/null)" || :)}/.cache ;;
        esac
        if [ "$(id -u)" = 0 ] && [ "${HOME:-}" ] && [ ! -O "$HOME" ]; then
            cache=$(echo ~root)/.cache # sudo -E: nothing of root's stays in another user's home
        fi
        venv=$cache/miyabi-healing$root/.venv
        case $cache in
            /*) ;;
            *) stop "$root cannot be written and there is no HOME; set XDG_CACHE_HOME to a folder of your own" ;;
        esac
        if [ -e "$venv" ] && [ ! -O "$venv" ]; then
            stop "$venv belongs to somebody else; set XDG_CACHE_HOME to a folder of your own"
        fi
    fi
fi
if ! is_made; then
    if ! { error=$(LC_ALL=C mkdir -p "${venv%/*}" 2>&1) && [ -w "${venv%/*}" ]; }; then
        case $error in
            *'No space left'*) ;; # told below, by who knows how much is missing and where it is
            *) stop "neither $root nor $cache can be written; set XDG_CACHE_HOME to a folder of your own" ;;
        esac
    fi
    python=
    path=$PATH
    PATH=$PATH:/usr/local/bin:/opt/homebrew/bin # cron knows neither
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        "$name" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        python=$(command -v "$name")
        "$name" -I -c 'import ensurepip' 2>/dev/null && break
    done
    PATH=$path
    [ "$python" ] || stop "Python 3.11 or newer is needed (apt install python3-venv, dnf install python3, brew install python)"
    "$python" -I "$root/requirements/environment.py" "$venv" "$lock"
fi

others=$(changeable_by_others "$venv")
[ -z "$others" ] || stop "root does not execute $venv: others can change $others; delete that environment, or chown and chmod it"

# -I: the caller's PYTHONPATH, PYTHONHOME, PYTHONOPTIMIZE and their like stay out of it, and reach the tools it starts.
exec "$venv/bin/python" -I "$root/self_healer.py" "$@"
