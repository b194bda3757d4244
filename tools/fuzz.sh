#!/usr/bin/env bash
# Builds the fuzz targets with the pinned compiler and libFuzzer, runs their committed seeds, and then every target for its
# share of $FUZZ_SECONDS (60 in all). FUZZ_TARGETS names some of them. What is found stays in target/fuzz/findings.
#
# A run can be played again as far as libFuzzer allows: it begins with the committed seeds alone, in one order, and with the random seed $FUZZ_SEED (1):
# the first steps are the same on every machine and a faster one takes more of them. FUZZ_SEED=0 draws another seed each time, and begins
# with all that such runs have learnt (target/fuzz/corpus): for looking further, not for CI.
#
# `tools/fuzz.sh lint` looks at the targets with clippy instead, by the flags and in the folder of the build, so that what both need is built once.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
seed=${FUZZ_SEED:-1}
host=x86_64-unknown-linux-gnu
[ "$(uname -m)" = x86_64 ] || host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-$PWD/target/fuzz}
read -r -a targets <<<"${FUZZ_TARGETS:-$(cd fuzz/fuzz_targets && printf '%s ' *.rs | sed 's/\.rs//g')}"

# What cargo-fuzz passes, but for the address sanitizer, which needs a nightly standard library: edges counted, compared values
# traced. `--target` keeps it out of build scripts and macros.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
export RUSTFLAGS="${flags[*]}"
if [ "${1:-}" = lint ]; then
    exec cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml --target "$host" --all-targets --features seeds -- -D warnings
fi
cargo build --quiet --locked --manifest-path fuzz/Cargo.toml --target "$host" --bins

# Values that are compared are remembered and put into inputs, addresses among them: without their randomisation, where that may be switched off, runs
# stay alike for longer.
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
    # By name, not as the file system lists them: the order is part of what is played again.
    (export LC_ALL=C; printf '%s,' "$seeds"/*) | sed 's/,$//' >"$CARGO_TARGET_DIR/$target.seeds"
    # Inputs are small because the bounds that matter are small; a slow one (10 s) or a large one (2 GiB) is a finding too.
    run=("${steady[@]}" "$CARGO_TARGET_DIR/$host/debug/$target" -seed="$seed" -artifact_prefix="$findings/" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)
    { "${run[@]}" -runs=0 "$seeds" && "${run[@]}" -max_total_time="$share" -seed_inputs=@"$CARGO_TARGET_DIR/$target.seeds" "$corpus"; } >"$log" 2>&1 || {
        cat "$log"
        echo "fuzz: $target found something; its input is the newest file in $findings" >&2
        exit 1
    }
    printf 'fuzz: %-12s %5s seeds, then %9s executions, %s edges\n' "$target" "$(find "$seeds" -type f | wc -l)" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n1)" "$(grep -o 'cov: [0-9]*' "$log" | tail -n1 | cut -c6-)"
done
