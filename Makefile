# Everything runs in a virtual environment of its own; PYTHON is any CPython from 3.10 on.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out
BIN := $(VENV)/bin
# torch first: with a torch that satisfies the requirement, pip does not look for a larger build.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint docs bench clean

demo: $(VENV)/.installed
	$(BIN)/multires-export models/demo/ckpt.pth --card models/demo/card.json -o $(OUT)/demo.bundle --force
	$(BIN)/python examples/python/classify_ecg.py $(OUT)/demo.bundle models/demo/records.npz --plots $(OUT)/demo
	@echo "report: $(OUT)/demo.bundle/report.html"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
# The package laid out as it is installed: an editable install is a hook at import time, which no tool sees.
	@rm -rf build/types && mkdir -p build/types/multires_edge
	@for part in base format models calibration export runtime cli; do ln -s ../../../$$part build/types/multires_edge/; done
	@for file in package/multires_edge/*; do ln -s ../../../$$file build/types/multires_edge/; done
	PYTHONPATH="build/types:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  $(BIN)/python -S -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo
	$(BIN)/mypy
	$(BIN)/mypy examples/python benchmarks docs/architecture.py

# The picture in docs/architecture.md, drawn from the code.
docs:
	$(PYTHON) docs/architecture.py

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.step_latency
	$(BIN)/python -m benchmarks.native_engine
	$(BIN)/python -m benchmarks.sampling

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'CPython 3.10 or later is needed: make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt $(wildcard runtime/cpp/* runtime/cpp/*/*)
	$(PIP) torch
	$(PIP) --editable ".[export]"
	@mkdir -p $(OUT)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable ".[export,test]"
# For TensorRT's C++ headers alone, which no other wheel has: what it needs to run is not needed.
	$(PIP) --no-deps kernel-lens
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) --editable ".[export,bench]"
	@touch $@

clean:
	rm -rf $(VENV) $(OUT) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
