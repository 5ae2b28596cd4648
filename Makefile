# Every target sets up what it needs; nothing is installed outside this directory, except by `make system`.
PYTHON ?= python3
VENV ?= .venv
# Processes that run tests: each has an S3 server of its own, of some 2 GB.
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test check bench soak powercut format system clean
help:            ## what can be made
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup: $(READY)  ## a virtual environment with everything the other targets need
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mlflow-cas needs Python 3.11 or newer; set PYTHON=python3.x" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)

demo: $(READY)   ## log a tiny model in all three ways, load, persist and register it; prints what it saved
	$(BIN)/python -m benchmarks.demo

test: $(READY)   ## all tests, in two processes; JOBS=1 for one
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: $(READY)  ## lint, types, layers, and what goes into the wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.support.wheel

bench: $(READY)  ## speed and space against MLflow, DVC and cp; SIZE=2GB ROUNDS=3
	$(BIN)/python -m benchmarks $(if $(SIZE),--size $(SIZE)) $(if $(ROUNDS),--rounds $(ROUNDS))

soak: $(READY)   ## random histories with kills, on a disk and in a bucket; MINUTES=10 or HISTORIES=1000, SEED=1
	$(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(HISTORIES),--histories $(HISTORIES)) $(if $(SEED),--seed $(SEED))

powercut: $(READY) ## lose writes in a virtual machine, 50 times; CUTS=50 SEED=1 FS=ext4 (docs/powercut.md)
	$(BIN)/python -m tests.powercut $(if $(CUTS),--cuts $(CUTS)) $(if $(SEED),--seed $(SEED)) $(if $(FS),--fs $(FS))

format: $(READY) ## rewrite the code as the formatter wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

system:          ## Debian packages some tests use (root): a browser, strace, XFS, an S3 server
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium chromium-driver strace xfsprogs \
		ceph-mon ceph-osd radosgw ceph-common

clean:           ## remove the environment and what the targets made
	rm -rf $(VENV) .demo .powercut dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
