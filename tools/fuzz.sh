#!/usr/bin/env bash
# Builds the fuzz targets with the pinned compiler and libFuzzer and runs their committed seeds.
# Then runs every target for its share of $FUZZ_SECONDS (60 in all). FUZZ_TARGETS selects targets.
# Findings stay in target/fuzz/findings.
#
# Runs are reproducible as far as libFuzzer allows. A run starts with the committed seeds alone, in
# one order, and with the random seed $FUZZ_SEED (1). The first steps are the same on every machine,
# and a faster machine takes more of them. For a longer search, FUZZ_SEED=0 draws a new random seed
# and starts with what earlier such runs have found (target/fuzz/corpus).
#
# `tools/fuzz.sh lint` runs clippy on the targets with the flags and the folder of the build, so
# that both share their dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
seed=${FUZZ_SEED:-1}
host=x86_64-unknown-linux-gnu
[ "$(uname -m)" = x86_64 ] || host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-$PWD/target/fuzz}
read -r -a targets <<<"${FUZZ_TARGETS:-$(cd fuzz/fuzz_targets && printf '%s ' *.rs | sed 's/\.rs//g')}"

# The flags of cargo-fuzz (edge coverage, tracing of compared values), without the address
# sanitizer, which needs a nightly standard library. `--target` keeps the flags out of build scripts
# and macros.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
export RUSTFLAGS="${flags[*]}"
if [ "${1:-}" = lint ]; then
    exec cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml --target "$host" --all-targets --features seeds -- -D warnings
fi
cargo build --quiet --locked --manifest-path fuzz/Cargo.toml --target "$host" --bins

# libFuzzer puts compared values into inputs, addresses among them. Without address randomisation,
# where it can be disabled, runs stay equal for longer.
steady=()
if [ "$seed" != 0 ] && setarch "$(uname -m)" -R true 2>/dev/null; then steady=(setarch "$(uname -m)" -R); fi

share=$(((seconds + ${#targets[@]} - 1) / ${#targets[@]}))
for target in "${targets[@]}"; do
    findings=$CARGO_TARGET_DIR/findings/$target seeds=fuzz/seeds/$target
    corpus=$CARGO_TARGET_DIR/corpus/$target
    if [ "$seed" != 0 ]; then
        corpus=$CARGO_TARGET_DIR/corpus-of-a-seed/$target
        rm -rf "$corpus"
    fi
    mkdir -p "$corpus" "$findings"
    log=$CARGO_TARGET_DIR/$target.log
    # Sorted by name, because the order is part of a reproducible run.
    (export LC_ALL=C; printf '%s,' "$seeds"/*) | sed 's/,$//' >"$CARGO_TARGET_DIR/$target.seeds"
    # Inputs are small because the relevant bounds are small. A slow input (10 s) or one that uses 2
    # GiB is a finding too.
    run=("${steady[@]}" "$CARGO_TARGET_DIR/$host/debug/$target" -seed="$seed" -artifact_prefix="$findings/" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)
    { "${run[@]}" -runs=0 "$seeds" && "${run[@]}" -max_total_time="$share" -seed_inputs=@"$CARGO_TARGET_DIR/$target.seeds" "$corpus"; } >"$log" 2>&1 || {
        cat "$log"
        echo "fuzz: $target failed; its input is the newest file in $findings" >&2
        exit 1
    }
    printf 'fuzz: %-12s %5s seeds, then %9s executions, %s edges\n' "$target" "$(find "$seeds" -type f | wc -l)" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n1)" "$(grep -o 'cov: [0-9]*' "$log" | tail -n1 | cut -c6-)"
done
