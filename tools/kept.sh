# shellcheck shell=bash
#
# A cache of wasm modules, in one folder for each digest of their inputs (tools/inputs-key.py), for
# scripts that build them. They set `cache`, its folder. Sourced.

# Number of sets of modules in a cache. A set has a few megabytes.
KEPT=5

# kept KEY FOLDER: a copy of the set of this digest, if there is a whole one.
kept() {
    cp "$cache/$1"/* "$2/" 2>/dev/null && (cd "$2" && sha256sum --check --status sums 2>/dev/null) && touch "$cache/$1" && return
    rm -f "$2"/*
    return 1
}

# keep KEY FOLDER: adds a set to the cache atomically, and removes the oldest sets.
keep() {
    local new=$cache/.new-$$
    mkdir -p "$cache"
    cp -r "$2" "$new"
    (cd "$new" && sha256sum -- *.wasm >sums)
    # An existing one is incomplete, or comes from a concurrent build of the same sources.
    rm -rf "${cache:?}/$1"
    mv -T "$new" "$cache/$1" 2>/dev/null || rm -rf "$new"
    # Remains of builds that were killed.
    find "$cache" -maxdepth 1 -name '.new-*' -mmin +60 -exec rm -rf {} +
    (cd "$cache" && ls -1td -- */ | tail -n +$((KEPT + 1)) | xargs -r rm -rf --)
}

# placed MODULE FILE: writes a file only if it differs, so that its watchers see no change.
placed() {
    mkdir -p "$(dirname "$2")"
    cmp -s "$1" "$2" || { cp "$1" "$2.new" && mv "$2.new" "$2"; }
}
