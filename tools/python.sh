# Functions shared by the scripts that make Python environments. They source it with `name` set to
# their own name. Messages go to standard error, because their standard output is for one folder.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
# The versions that the lists have wheels for.
versions=(3.11 3.12)

say() { printf '%s: %s\n' "$name" "$*" >&2; }
fail() { say "$@"; exit 1; }

# Checks that the lists have wheels for this machine. $1 is the oldest C library, $2 the wheels'
# source.
machine() {
    local glibc
    [ "$(uname -s)" = Linux ] || fail "Linux is needed; this is $(uname -s)"
    case $(uname -m) in x86_64 | aarch64) ;; *) fail "x86-64 or arm64 is needed; this is $(uname -m)" ;; esac
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | awk '{print $2}')
    [ -n "$glibc" ] && [ "$(printf '%s\n%s\n' "$1" "$glibc" | sort -V | head -n1)" = "$1" ] \
        || fail "the wheels need glibc $1 ($2) or later; this is ${glibc:-another C library}"
}

# Installs Debian packages, only if they are missing and this user may install them.
debian() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $* from Debian"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; } >/dev/null \
            || fail "apt-get could not install $*; install them and run this again"
    else
        fail "missing: $*; install them with your package manager and run this again"
    fi
}

# Prints the version of a Python if it is one of the above.
known() {
    local version
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || return 1
    [[ " ${versions[*]} " == *" $version "* ]] && printf '%s' "$version"
}

# Sets `python` and `version`.
find_python() {
    local candidate
    python=
    for candidate in ${TENSORGATE_PYTHON:-python3 python3.12 python3.11}; do
        command -v "$candidate" >/dev/null && version=$(known "$candidate") && python=$(command -v "$candidate") && return
    done
    fail "CPython 3.11 or 3.12 is needed for $1 (python3 here is $(python3 --version 2>&1)); install one, or name it in TENSORGATE_PYTHON"
}

# Sets `made`: a folder for the content of these files (lists of wheels, scripts) and for this
# Python. Takes a lock on it, which ends with the script or with `flock -u 9`.
place() {
    made=$cache/$name-$({ cat "$@"; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | sha256sum | cut -c1-16)
    mkdir -p "$cache"
    exec 9>"$cache/.$name.lock"
    flock 9
}

# Makes a new virtual environment there.
environment() {
    rm -rf "$made"
    "$python" -m venv "$made" 2>/dev/null || { rm -rf "$made"; debian python3-venv; "$python" -m venv "$made"; } \
        || fail "$python -m venv does not work; install python3-venv and run this again"
}

# Installs exactly the packages of a list. Further arguments go to pip.
wheels() {
    local list=$1
    shift
    "$made/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: -r "$list" "$@" >&2 \
        || fail "pip could not install what $list names; check the network and run this again"
}
