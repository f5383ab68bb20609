# Two commands are enough: `make demo` and `make test`. Both build a private environment in .venv first.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.PHONY: demo test check lint types imports format lock clean system bench

demo: $(STAMP)
	$(RUN)/skerry demo $(ARGS)

test: $(STAMP) system check
	$(RUN)/python -m pytest $(ARGS)

check: lint types imports

lint: $(STAMP)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

types: $(STAMP)
	$(RUN)/mypy

imports: $(STAMP)
	$(RUN)/lint-imports --no-cache

format: $(STAMP)
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench: $(STAMP)
	$(RUN)/python benchmarks/spine.py --json

# The few programs that some tests use for real. Installed only by root on Debian; elsewhere those tests say that they were skipped.
system:
	@sh tests/system.sh

$(STAMP): requirements/dev.txt requirements/bootstrap.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skerry needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "this Python cannot make environments: on Debian, apt install python3-venv"; exit 1; }
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	$(RUN)/uv pip sync --quiet --python $(RUN)/python --require-hashes requirements/dev.txt requirements/bootstrap.txt \
	  || $(RUN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . \
	  || $(RUN)/uv pip install --quiet --python $(RUN)/python --no-deps --no-build-isolation -e .
	@touch $@

# Locks hold hashes and no addresses, so they work with any package index.
lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --extra all --group dev pyproject.toml --no-annotate --no-header -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes pyproject.toml --no-annotate --no-header -o requirements/device.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --extra fleet --extra postgres --extra objects --extra notify pyproject.toml --no-annotate --no-header -o requirements/fleet.txt
	echo uv | uv pip compile -q --universal --python-version 3.11 --generate-hashes - --no-annotate --no-header -o requirements/bootstrap.txt
	echo pip | uv pip compile -q --universal --python-version 3.11 --generate-hashes - --no-annotate --no-header >> requirements/bootstrap.txt

clean:
	rm -rf $(VENV) demo-run .mypy_cache .ruff_cache .pytest_cache .hypothesis
