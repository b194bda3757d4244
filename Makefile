# The commands of this repository. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help base shipped setup build filters components builtins handler-tools demo-build demo-filter demo-programs demo up dist quick test soak test-dist test-clients test-triton test-servers test-images test-mesh test-monitoring test-console test-chaos test-examples test-artifacts bench bench-overload bench-scan bench-signing bench-quick fuzz reference licences text lint lint-all ci ci-stages ci-long clean
SHELL := /bin/bash
STAGE := tools/stage.sh
# The pinned compiler, whatever the environment sets. One target folder, because the examples'
# policies name files in it.
export RUSTUP_TOOLCHAIN := $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
export CARGO_TARGET_DIR := $(CURDIR)/target

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install the requirements: Rust toolchain, wasm targets, Envoy (cached, idempotent)
	@$(STAGE) setup tools/setup.sh

filters: setup ## Build the Envoy filters, as they are shipped, into target/filters/
	@$(STAGE) filters tools/filters.sh

# Compiled dependencies of an earlier build, for a new target folder.
base:
	@$(STAGE) base tools/base.py restore

build: setup base ## Build everything that runs on this machine
	@$(STAGE) build cargo build --quiet --locked
	@$(STAGE) base tools/base.py save

components: build ## Build the example and hostile handlers into target/components/
	@$(STAGE) components tools/components.sh
	@$(STAGE) kit tools/kit.sh --check
	@tools/pin-components.sh --check

builtins: components ## Copy the handlers for builtin:NAME beside the host; KEY=release.pem signs them
	@tools/builtins.sh $(KEY)

handler-tools: build ## Install the tools that build handlers in Python and JavaScript (cached)
	@$(STAGE) handler-tools tools/handler-tools.sh

# The demo's own handlers, as its policy names them.
DEMO_HANDLERS = $(shell sed -n 's,^ *component: components/\(.*\)\.wasm$$,\1,p' examples/policies/digits/gate.yaml | tr _ -)

# No more than the demo runs. Times are those of two cores, for the first build and for later ones.
demo-build:
	@$(STAGE) --about "Rust's wasm targets and Envoy, if they are missing: 30 s, later 1 s" setup tools/setup.sh --no-tests
	@$(MAKE) --no-print-directory --jobs=$(shell nproc) demo-filter demo-programs
	@$(STAGE) --about "the demo's handlers ($(DEMO_HANDLERS)): 30 s, later 1 s" handlers tools/components.sh $(DEMO_HANDLERS)

demo-filter:
	@$(STAGE) --about "the gate filter, beside the programs: 3 minutes, later 1 s" filters tools/filters.sh gate

demo-programs: base
	@$(STAGE) --about "the command, the host and the demo's model server: 9 minutes, later 1 s" programs tools/programs.sh
	@if [ "$(DRIVER)" = module ]; then cargo build --quiet --locked -p tensorgate-envoy-module; fi

demo: demo-build ## Start the whole gate, send good and hostile requests, print the table, stop; DRIVER=module: as native code
	@$(STAGE) --about "five gates, good and hostile requests, alerts: 25 s" demo env DRIVER=$(DRIVER) target/debug/tensorgate-demo

up: demo-build ## Start the same gate and keep it running until Ctrl-C
	@exec target/debug/tensorgate up -c examples/policies/digits/gate.yaml --state target/up

dist: ## Build a release into target/dist: programs, filters, handlers, checksums, SBOM; KEY=release.pem signs the handlers
	@$(STAGE) --about "Rust's wasm targets and Envoy, if they are missing: 30 s, later 1 s" setup tools/setup.sh --no-tests
	@$(STAGE) --about "release programs, filters and handlers: 20 minutes, later 10 s" dist tools/dist.sh $(KEY)

# Two binaries run at once, and many tests wait: three test threads in each keep two cores busy.
test: filters build components handler-tools ## Run every test in its short form, on a real Envoy too; ends with what was slow and what failed
	@$(STAGE) core cargo check --quiet --locked --target wasm32v1-none -p tensorgate-policy -p tensorgate-identity
	@$(STAGE) test env RUST_TEST_THREADS=$${RUST_TEST_THREADS:-3} tools/suite.py --locked
	@$(STAGE) base tools/base.py save

soak: filters components ## Saturate a host, then a whole gate, for SOAK_SECONDS (900) each; fails on growth or a wrong response
	@$(STAGE) soak env SOAK_SECONDS=$${SOAK_SECONDS:-900} cargo test --quiet --locked --test it soak:: -- --nocapture

bench: filters components handler-tools ## Measure against bare Envoy and the peers, write bench/results.md (half an hour the first time)
	@tools/bench-peers.sh
	@$(STAGE) bench-build cargo build --quiet --locked --release -p tensorgate -p tensorgate-workbench -p tensorgate-host -p tensorgate-envoy-module -p tensorgate-idle-module -p tensorgate-bench
	@$(STAGE) bench target/release/tensorgate-bench --out bench/results.md

bench-overload: filters components ## Compare good answers at twice the load with those at full load (a minute)
	@$(STAGE) bench-build cargo build --quiet --locked --release -p tensorgate -p tensorgate-workbench -p tensorgate-host -p tensorgate-envoy-module -p tensorgate-bench
	@$(STAGE) bench-overload target/release/tensorgate-bench --only overload --enforce

bench-scan: ## Measure model scan against other scanners, write bench/scan.md (some minutes)
	@tools/bench-peers.sh scan
	@$(STAGE) bench-build cargo build --quiet --locked --release -p tensorgate -p tensorgate-model
	@$(STAGE) bench-scan "$${XDG_CACHE_HOME:-$$HOME/.cache}/tensorgate/bench-scan/bin/python" -B bench/scan/run.py --out bench/scan.md

bench-signing: ## Measure the hashing and verification of a 10 GB model, write bench/signing.md (some minutes)
	@$(STAGE) bench-build cargo build --quiet --locked --release -p tensorgate -p tensorgate-model
	@$(STAGE) bench-signing python3 -B bench/signing/run.py --out bench/signing.md

# The packages that `make build` builds. With the same packages, features are the same, and no large
# dependency is compiled twice.
BUILT = $(shell sed -n '/^default-members/,/^]/s/^ *"\(.*\)",.*/\1/p' Cargo.toml | while read -r member; do sed -n 's/^name = "\(.*\)"/-p \1/p' "$$member/Cargo.toml" | head -n 1; done)

bench-quick: filters build components handler-tools ## Check that every scenario of the bench works; measures nothing
	@$(STAGE) bench-build cargo build --quiet --locked $(BUILT) -p tensorgate-idle-module -p tensorgate-bench
	@$(STAGE) bench-test cargo test --quiet --locked $(BUILT) -p tensorgate-bench --bin tensorgate-bench
	@$(STAGE) bench-quick target/debug/tensorgate-bench --quick

test-dist: dist ## Unpack the release elsewhere, check all of it, start it, send a good and a bad request
	@$(STAGE) test-dist tests/dist/run.py target/dist

test-images: dist ## Write the release's images, push them to a real registry, pull and compare them
	@$(STAGE) test-images tools/images.sh target/dist

test-clients: filters build ## Compare responses to real clients of every protocol through the gate and without it
	@$(STAGE) clients bash -c 'made=$$(tools/clients.sh) && ai_sdk=$$(tools/ai-sdk.sh) && exec "$$made/bin/python" tests/clients/run.py "$$ai_sdk"'

test-triton: filters build ## Compare the responses of a real Triton through the gate and without it; follow the first tutorial; serve verified models
	@$(STAGE) triton bash -c 'made=$$(tools/triton.sh) && exec "$$made/bin/python" tests/triton/run.py "$$made"'

test-servers: filters build ## Inject faults into real servers behind the gate (2.5 GB the first time); SERVERS="ray llama" selects
	@$(STAGE) servers bash -c 'made=$$(tools/servers.sh) && exec "$$made/tf-stand-in/bin/python" tests/servers/run.py "$$made" $(SERVERS)'

test-mesh: filters build ## Check what is rendered for clusters against published schemas, and serve it by a real host and a real Envoy (80 MB the first time); FOLDERS="a b" are validated too
	@$(STAGE) mesh bash -c 'made=$$(tools/mesh-tools.sh) && exec "$$made/bin/python" tests/mesh/run.py $(FOLDERS)'

test-monitoring: filters build components ## Test the rules for Prometheus with promtool, and compare them with the metrics of a real host and a real Envoy; check the dashboards with Grafana's types and run their queries; export the audit log to a real collector (110 MB the first time)
	@$(STAGE) monitoring bash -c 'made=$$(tools/clients.sh) && promtool=$$(tools/promtool.sh) && prometheus=$$(tools/promtool.sh prometheus) && schema=$$(tools/grafana-schema.sh) && exec "$$made/bin/python" tests/monitoring/run.py "$$promtool" "$$prometheus" "$$schema"'

test-console: filters build components ## Look at the console of a real gate in a real Chromium, with axe-core (100 MB the first time); screenshots in target/console
	@$(STAGE) console bash -c 'chromium=$$(tools/chromium.sh) && axe=$$(tools/axe.sh) && exec python3 -B tests/console/run.py "$$chromium" "$$axe"'

# As root, or as root of a user namespace: a small disk is mounted.
test-chaos: filters build ## Kill, freeze and starve a gate under load, and replay outages and attacks against a real Prometheus (110 MB the first time)
	@$(STAGE) chaos bash -c 'made=$$(tools/clients.sh) && prometheus=$$(STRICT=1 tools/promtool.sh prometheus) && exec unshare $$([ $$EUID = 0 ] || echo --map-root-user) --mount "$$made/bin/python" tests/chaos/run.py "$$prometheus"'

test-examples: build components ## Compare the example handlers with Pillow, tokenizers, scikit-learn and SciPy on random inputs
	@$(STAGE) examples bash -c 'made=$$(tools/examples.sh) && exec "$$made/bin/python" examples/reference/run.py'

test-artifacts: build ## Scan hostile and benign model files; compare tables with the newest packages; run chat templates; sign and verify models with OpenSSF's own package (1.6 GB the first time)
	@$(STAGE) hostile python3 -B tests/artifact/hostile.py target/debug/tensorgate
	@$(STAGE) templates bash -c 'made=$$(tools/artifacts.sh templates) && exec "$$made/bin/python" -B tests/artifact/templates.py target/debug/tensorgate'
	@$(STAGE) tables bash -c 'made=$$(tools/artifacts.sh tables) && exec "$$made/bin/python" -B tests/artifact/tables.py target/debug/tensorgate "$$made/torch"'
	@$(STAGE) signing bash -c 'made=$$(tools/artifacts.sh signing) && exec "$$made/bin/python" -B tests/artifact/signing.py target/debug/tensorgate'
	@$(STAGE) identities bash -c 'made=$$(tools/artifacts.sh signing) && exec "$$made/bin/python" -B tests/artifact/identities.py target/debug/tensorgate'
	@$(STAGE) benign bash -c 'made=$$(tools/artifacts.sh benign) && torch=$$(tools/torch.sh) && rm -rf target/benign && PYTHONPATH="$$torch/python" LD_LIBRARY_PATH="$$torch/lib" exec "$$made/bin/python" -B tests/artifact/benign.py target/benign --tensorgate target/debug/tensorgate'

fuzz: setup ## Check the fuzz targets, run their seeds, then all of them for FUZZ_SECONDS (60); render answers with links to pictures
	@$(STAGE) clippy-fuzz tools/fuzz.sh lint
	@$(STAGE) fuzz tools/fuzz.sh
	@$(STAGE) picture-links bash -c 'made=$$(tools/artifacts.sh templates) && exec "$$made/bin/python" -B tests/vectors/picture_links.py'

reference: build ## Generate the pages of docs/reference, and the dashboards in monitoring/grafana
	@tools/reference.py --write
	@tools/dashboards.py

licences: setup ## Check licences, sources and versions of all dependencies against deny.toml
	@$(STAGE) licences tools/deny.sh

text: setup base ## Check commit subjects, formatting and the rules for text and sources: a few seconds
	@$(STAGE) commits tools/commits.sh
	@$(STAGE) fmt cargo fmt --all --check
	@$(STAGE) fmt-fuzz cargo fmt --manifest-path fuzz/Cargo.toml --check
	@$(STAGE) tidy cargo test --quiet --locked -p tensorgate-tidy --test tidy

# What is shipped or explained: programs, filters, handlers, and the demo. Tests are linted by
# `lint-all`, because with them clippy compiles every dependency of every test.
GUESTS = png-digits digit-labels normalise passthrough image-classifier class-labels text-tokens text-classifier tabular audio-features detection redaction prompt-template tensorgate-kit
HOSTILE = hostile-fetch hostile-lookup hostile-loop hostile-memory-bomb hostile-behaviours hostile-wasi hostile-wrong-shape

lint: text shipped ## Check text rules, and clippy and documentation of what is shipped

# The bench is compiled here, so that it keeps up with what it measures.
shipped: setup
	@$(STAGE) clippy cargo clippy --quiet --locked $(BUILT) -p tensorgate-bench -- -D warnings
	@$(STAGE) clippy-wasm cargo clippy --quiet --locked --target wasm32-wasip1 -p tensorgate-gate -- -D warnings
	@$(STAGE) clippy-guest cargo clippy --quiet --locked --target wasm32-unknown-unknown $(addprefix -p ,$(GUESTS)) -- -D warnings
	@$(STAGE) doc env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps -p tensorgate-handler -p tensorgate-policy -p tensorgate-values -p tensorgate-artifact -p tensorgate-signature
	@$(STAGE) base tools/base.py save

lint-all: lint ## The same for everything: tests, bench, fuzz targets, hostile handlers, all documentation
	@$(STAGE) clippy-all cargo clippy --quiet --locked --all-targets $(BUILT) -p tensorgate-bench -- -D warnings
	@$(STAGE) clippy-faulty cargo clippy --quiet --locked --target wasm32-wasip1 -p tensorgate-faulty-gate -- -D warnings
	@$(STAGE) clippy-hostile cargo clippy --quiet --locked --target wasm32-unknown-unknown $(addprefix -p ,$(HOSTILE)) -- -D warnings
	@$(STAGE) clippy-fuzz tools/fuzz.sh lint
	@$(STAGE) doc-all env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps

quick: text ## Check what differs from BASE (origin/main): lints and tests of changed crates and their dependants
	@tools/quick.py $(BASE)

# The cap on the seconds of CPU of all stages of `make ci` from a clean clone. It only falls: what
# became slower is found and mended, or another stage gets faster first.
CI_CPU_SECONDS := 2500

ci: ## Run what CI runs; ends with the time of each stage and the tests that passed only when they ran again
	@tools/stages.py --expect $(CI_CPU_SECONDS) $(MAKE) --no-print-directory ci-stages
	@cat target/unsteady.txt

# The checks that fail soonest come first. The filter is built beside the programs, in a target
# folder of its own.
ci-stages: text licences
	@$(MAKE) --no-print-directory --jobs=$(shell nproc) filters build
	@$(MAKE) --no-print-directory --jobs=1 shipped test test-clients test-monitoring test-mesh test-triton demo

ci-long: ## Run a part of what CI does not: PART=vectors, servers, dist, envoys, fuzz, soak, overload, chaos, clients, mesh, console, artifacts, native, module or lint
	@tools/ci-long.sh $(PART)

clean: ## Remove everything that was built
	cargo clean
