# Every target can be run again at any time; what is up to date is skipped.
.DEFAULT_GOAL := help
.PHONY: help install agent run stop test lint compat bench clean
MAKEFLAGS += --no-print-directory

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: ## install what this machine lacks (packages, runsc) and the Python dependencies
	@scripts/install.sh
	@scripts/venv.sh runtime

agent: ## build the guest agent; prints where it is
	@scripts/agent.sh

run: ## install, build, start the server in the background, and run a first session in a sandbox
	@scripts/run.sh

stop: ## end the server and every sandbox; nothing of ours is left on the machine
	@if [ -x .venv/bin/atolld ]; then \
		if [ "$$(id -u)" = 0 ]; then .venv/bin/atolld stop --all; else sudo .venv/bin/atolld stop --all; fi; \
	else echo 'stop: nothing is installed here, so nothing of it runs'; fi

test: ## everything: lint, unit tests, and tests on the real runtimes (root)
	@scripts/test.sh

lint: ## ruff, mypy --strict, import-linter, rustfmt, clippy
	@scripts/venv.sh dev
	@scripts/lint.sh

compat: ## try E2B's own clients at every supported release; writes docs/compatibility-e2b.md (root)
	@scripts/compat.sh

bench: ## measure against the bare runtimes; writes docs/benchmarks.md
	@scripts/bench.sh

clean: ## remove what was built in this directory (not /var/cache/atoll, not /var/lib/atoll)
	rm -rf .venv agent/target .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find server sdk e2e examples -name __pycache__ -type d -prune -exec rm -rf {} +
