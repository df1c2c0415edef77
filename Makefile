# A new machine needs Python 3.11 or newer, make and a package index; everything lands in $(VENV).
PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The demo needs a fifth of what the developers' tools weigh; once those are there, they serve both.
DEMO := $(if $(wildcard $(VENV)/.dev.lock),dev,demo)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: FORCE help demo test check format bench bench-compare scale faults soak fuzz lock image clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.$(DEMO).ready ## Two real passes against a simulated proxy and an embedded PostgreSQL
	@$(BIN)/worker demo $(DEMO_ARGS)

test: $(VENV)/.dev.ready ## Run the tests (PYTEST_ARGS="-k name" for some of them)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 $(PYTEST_ARGS)

check: $(VENV)/.dev.ready ## Lint, format, types, the layers of the imports, the Dockerfile, deploy/, the installed set
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m pytest --quiet tests/test_deploy.py
	$(PIP) check
	$(BIN)/python tests/audit.py $(VENV)

format: $(VENV)/.dev.ready ## Rewrite the code the way `make check` wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev.ready ## Measure what is promised of its speed (BENCH_ARGS=--quick for a minute)
	@$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-compare: $(VENV)/.dev.ready ## Two results of it side by side (BENCH_ARGS="old.json new.json")
	@$(BIN)/python benchmarks/run.py --compare $(BENCH_ARGS)

scale: $(VENV)/.dev.ready ## The same with 50 million records stored (SCALE_ARGS="--records 1000000")
	@$(BIN)/python benchmarks/scale.py $(SCALE_ARGS)

faults: $(VENV)/.dev.ready ## A thousand runs in which something goes wrong (FAULTS_ARGS="--runs 50 --seed 7")
	@$(BIN)/python tests/faults.py $(or $(FAULTS_ARGS),--runs 1000)

soak: $(VENV)/.dev.ready ## The service for half an hour while everything around it fails (SOAK_ARGS="--minutes 3")
	@$(BIN)/python tests/soak.py $(SOAK_ARGS)

fuzz: $(VENV)/.dev.ready ## Ten thousand mutated payloads, and a minute of atheris where it has a wheel
	WORKER_TEST_FUZZ=10000 $(BIN)/python -m pytest -q -s tests/test_fuzz.py
	@$(PIP) install 'atheris>=3,<4' && $(BIN)/python tests/fuzz_decode.py -max_total_time=60 || \
		echo "atheris has no wheel for this Python: not run"

# The developers' lock is resolved first; the other two start as its copies, so uv keeps their pins equal to it.
# The demo installs the checkout itself, hence the build backend.
UV := env -u UV_FIND_LINKS -u PIP_FIND_LINKS $(BIN)/uv pip compile --quiet --no-config --universal \
	--python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links
lock: $(VENV)/pyvenv.cfg ## Maintainers: resolve the lock files anew (LOCK_ARGS=--upgrade for newer releases)
	@$(PIP) install 'uv>=0.13,<1'
	$(UV) $(LOCK_ARGS) --extra embedded --group dev pyproject.toml -o requirements-dev.lock
	cp requirements-dev.lock requirements-demo.lock
	cp requirements-dev.lock requirements.lock
	echo hatchling | $(UV) --extra embedded pyproject.toml - -o requirements-demo.lock
	$(UV) pyproject.toml -o requirements.lock
	echo pip-audit | $(UV) --no-annotate - -o requirements-audit.lock

image: ## Build the container image (IMAGE=name:tag)
	docker build --tag $(or $(IMAGE),usage-worker) --build-arg VERSION=$(or $(VERSION),unversioned) \
		--build-arg REVISION=$$(git rev-parse HEAD 2> /dev/null || echo unknown) .

clean: ## Remove the virtual environment and every cache
	@if [ -e $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist

# --- the virtual environment --------------------------------------------------------------------

# Made anew when its interpreter is gone, as after an upgrade of the system's Python.
$(VENV)/pyvenv.cfg: $(shell test -x $(BIN)/python || echo FORCE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(if $(wildcard $@),--clear) $(VENV)
FORCE:

# A changed lock starts from an empty folder: what it no longer lists must not stay importable.
LOCKED := $(VENV)/.demo.lock $(VENV)/.dev.lock
$(LOCKED): $(VENV)/.%.lock: requirements-%.lock $(VENV)/pyvenv.cfg
	@if [ -e $@ ]; then $(PYTHON) -m venv --clear $(VENV); fi
	@echo "installing $< into $(VENV) ($(SIZE_$*) MB to fetch the first time) ..."
	@$(PIP) install --require-hashes -r $<
	@touch $@

SIZE_demo := 30
SIZE_dev := 190

READY := $(VENV)/.demo.ready $(VENV)/.dev.ready
$(READY): $(VENV)/.%.ready: $(VENV)/.%.lock pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
