# Every target is a thing that a person does. `make` lists them.

.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: ## Start MLflow behind a login, in a real Kubernetes, and say what to try
	@.ci/with-cluster cargo run --package globus-auth-tests --features cluster --bin demo -- up

.PHONY: demo-down
demo-down: ## Remove the demo, and the local cluster with it
	@if [[ -n "$$KUBECONFIG" && "$$KUBECONFIG" != "$(CURDIR)/target/kubernetes/kubeconfig" ]]; then \
	  cargo run --quiet --package globus-auth-tests --features cluster --bin demo -- down; \
	else \
	  cargo run --quiet --package globus-auth-tests --features cluster --bin demo -- stop && $(MAKE) --no-print-directory cluster-down; \
	fi

.PHONY: test
test: ## Run every test: lints, unit, black box, and in the cluster with a browser
	@.ci/test

.PHONY: test-fast
test-fast: ## Run the tests that need no cluster
	@.ci/test fast

.PHONY: lint
lint: ## Check format, lints, boundaries, documentation, licences and generated files
	@.ci/lint

.PHONY: bench
bench: ## Measure the sidecar beside its peers (ARGS=--quick for a minute; OAUTH2_PROXY_BIN names one of them)
	@.ci/setup bench
	@cargo build --quiet --release --locked --package globus-auth-sidecar --package globus-auth-vault
	@GLOBUS_AUTH_SIDECAR="$(CURDIR)/target/release/globus-auth-sidecar" \
	  cargo run --quiet --profile load --locked --package globus-auth-tests --bin bench -- $(ARGS)
	@GLOBUS_AUTH_SIDECAR="$(CURDIR)/target/release/globus-auth-sidecar" GLOBUS_AUTH_VAULT="$(CURDIR)/target/release/globus-auth-vault" \
	  cargo run --quiet --profile load --locked --package globus-auth-tests --bin bench -- vault
	@cargo bench --quiet --profile load --locked --package globus-auth-vault --bench vault -- $(GRANTS)

.PHONY: mutants
mutants: ## Change what decides, one thing at a time, and expect a test to notice (hours; ARGS="--file sidecar/src/cookie.rs" for less)
	@.ci/setup mutants
	@CARGO_TARGET_DIR="$(CURDIR)/target/mutants" cargo mutants --jobs 1 --output target/mutants $(ARGS)

.PHONY: fuzz
fuzz: ## Send made-up cookies, tokens, addresses, paths and headers to what reads them (CASES=1000000 for longer)
	@PROPTEST_CASES=$(or $(CASES),100000) cargo test --workspace -- fuzz::

.PHONY: outage
outage: ## Let an issuer be down for an hour while 100,000 grants become due, and see all recover (the hour is simulated)
	@GRANTS=$(or $(GRANTS),100000) cargo test --quiet --profile load --package globus-auth-vault -- outage --nocapture

.PHONY: soak
soak: ## Abuse a sidecar for a quarter of an hour, and see what is left (ARGS="--minutes 60" for longer)
	@cargo build --quiet --release --locked --package globus-auth-sidecar --bin globus-auth-sidecar
	@GLOBUS_AUTH_SIDECAR="$(CURDIR)/target/release/globus-auth-sidecar" \
	  cargo run --quiet --locked --package globus-auth-tests --bin soak -- $(ARGS)

.PHONY: audit
audit: ## Check what we depend on for known vulnerabilities (asks the RustSec database)
	@cargo deny --log-level error check advisories

.PHONY: cluster
cluster: ## Start the local Kubernetes (KUBERNETES_VERSION=1.33.13 for another version)
	@.ci/setup cluster
	@cargo run --quiet --package globus-auth-cluster -- up

.PHONY: cluster-down
cluster-down: ## Stop it, and leave nothing behind but files
	@cargo run --quiet --package globus-auth-cluster -- down

.PHONY: images
images: ## Build the images (IMAGE_REPOSITORY and IMAGE_TAG name them)
	@.ci/setup images
	@.ci/image $$(.ci/image --list)

.PHONY: push
push: ## Push the images to IMAGE_REPOSITORY
	@.ci/image --push $$(.ci/image --list)

.PHONY: crds
crds: ## Write the CustomResourceDefinitions anew from their types
	@cargo run --quiet --package globus-auth-crds --bin crdgen

.PHONY: setup
setup: ## Install the tools that all of this needs
	@.ci/setup
