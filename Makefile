# Every target sets up .venv in the project's root as far as it needs.
# PYTHON=... chooses the interpreter (3.11 or newer) that .venv is made with.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile
# Two builds at a time in one tree would write the same files.
LOCK := $(shell command -v flock >/dev/null 2>&1 && echo flock $(VENV)/.lock)
HTML ?= compare.html
BENCH_JSON ?= .benchmarks

.DEFAULT_GOAL := help
.PHONY: help docs oracle stored compare test pytest lint lint-style lint-cython lint-types lint-stubs format site sdist bench bench-compare build mutants fuzz sanitize soak scale clean

help:
	@echo "make compare        what each design does with the bundled kernel traces: a table and $(HTML)"
	@echo "make test           lint, type checks, build from the sdist, tests"
	@echo "make build          compile the extensions in place"
	@echo "make lint           ruff, cython-lint, mypy, stubtest"
	@echo "make docs           the pages made from tables: metrics, fields of a design, the JSON schema"
	@echo "make site           the documents as pages, in build/site"
	@echo "make bench          benchmarks, saved as JSON"
	@echo "make bench-compare  the last two saved benchmark runs side by side"
	@echo "make oracle         KERNEL=path: a real kernel recorded and verified (docs/evidence.md)"
	@echo "make mutants        break the rules one by one; the tests must notice each"
	@echo "make fuzz           damaged inputs for every reader; make sanitize: under ASan and UBSan"
	@echo "make soak           very long runs, against the twin and in bounded memory"
	@echo "make scale          1 GiB to 4 TiB, and a very long operation stream"
	@echo "make clean          remove what was built, .venv too"

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "asi-pa needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What it takes to build and to compare.
$(VENV)/.run-ready: pyproject.toml | $(PY)
	$(PIP) "setuptools>=77" "cython>=3.1" "numpy>=2.0" "plotly>=6" "tqdm>=4.66"
	@touch $@

# What tests, lints and benchmarks need besides.
$(VENV)/.test-ready: pyproject.toml $(VENV)/.run-ready
	$(PIP) "cython-lint>=0.16" "dask>=2025.1" "distributed>=2025.1" "drgn>=0.0.30" "hypothesis>=6.100" \
	    "matplotlib>=3.9" "mkdocs-material>=9.6" "mypy>=1.15" "nbclient>=0.10" "nbformat>=5.10" "ipykernel>=6" "jinja2>=3.1" \
	    "pandas>=2.2" "pandas-stubs>=2.2" "polars>=1.0" \
	    "pyarrow>=18" "pyright[nodejs]>=1.1.400" "pytest>=8" \
	    "pytest-benchmark>=5" "ruff>=0.9" types-setuptools types-tqdm "zstandard>=0.22"
	@touch $@

# What draws the growth curve.
$(VENV)/.bench-ready: pyproject.toml $(VENV)/.test-ready
	$(PIP) "matplotlib>=3.9"
	@touch $@

# The package itself, editable: .venv/bin/asi-pa and `import asi_pa` from anywhere.
$(VENV)/.installed: pyproject.toml $(VENV)/.run-ready
	ASI_PA_ONLY=none $(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

build: $(VENV)/.installed
	@echo "building what changed (about a minute the first time)"
	@$(LOCK) $(PY) setup.py --quiet build_ext --inplace

compare: build
	$(VENV)/bin/asi-pa compare --html $(HTML)

# What no trace decides: yields of a fragmented machine, holes found by the auditor (about five minutes).
stored: build
	$(PY) -m asi_pa.experiment.stored

# What is made from the tables of metrics (asi_pa/experiment/metrics/) and of designs' fields.
docs: build
	$(PY) -m asi_pa.report.reference docs

# The documents as pages, without a network; a broken link or a page that nothing leads to fails.
site: $(VENV)/.test-ready
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "build/site/index.html"

lint: lint-style lint-cython lint-types lint-stubs

lint-style: $(VENV)/.test-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# cython-lint calls pycodestyle, which it finds beside itself.
lint-cython: $(VENV)/.test-ready
	find asi_pa benchmarks -name '*.pyx' -o -name '*.pxd' | PATH="$(CURDIR)/$(VENV)/bin:$$PATH" xargs -r cython-lint

lint-types: $(VENV)/.test-ready
	$(VENV)/bin/mypy asi_pa oracle tests benchmarks setup.py $(wildcard examples/*.py contrib/*.py)
	$(VENV)/bin/pyright --pythonpath $(PY) tests/api/everything.py

lint-stubs: build $(VENV)/.test-ready
	find asi_pa -name '*.pyx' | sed 's/\.pyx$$//; s|/|.|g' | \
	    xargs -r $(PY) -m mypy.stubtest --mypy-config-file pyproject.toml \
	        --allowlist tests/stubtest.allow --ignore-unused-allowlist

format: $(VENV)/.test-ready
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

pytest: build $(VENV)/.test-ready
	$(PY) -m pytest $(PYTEST_ARGS)

# The sdist, built with bounds checks, installed with its dependencies where nothing else is.
sdist: $(VENV)/.run-ready
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) tests/check_sdist.py

test: lint sdist pytest

# The clock is the thread's own time: what else the machine does counts less.
bench: build $(VENV)/.bench-ready
	ASI_PA_BENCH=full $(PY) -m pytest benchmarks --benchmark-enable --benchmark-only \
	    --benchmark-group-by=group --benchmark-timer=time.thread_time \
	    --benchmark-storage=file://$(BENCH_JSON) --benchmark-autosave $(PYTEST_ARGS)
	$(PY) -m benchmarks.targets
	$(PY) -m benchmarks.wall --full

bench-compare: $(VENV)/.test-ready
	$(VENV)/bin/pytest-benchmark --storage=file://$(BENCH_JSON) compare --group-by=group

mutants: build $(VENV)/.test-ready
	$(PY) tests/mutants.py
	$(PY) tests/outside.py

# FUZZ is how many damaged inputs each reader gets; SANITIZE=--all builds every module, not only the readers.
fuzz: build $(VENV)/.test-ready
	$(PY) -m tests.fuzz $(or $(FUZZ),2000)

sanitize: build $(VENV)/.test-ready
	$(PY) tests/sanitize.py $(SANITIZE) $(or $(FUZZ),300)

# Goes on where it was interrupted.
soak: build $(VENV)/.test-ready
	$(PY) -m tests.soak twin 1e7
	$(PY) -m tests.soak machine 1e6
	$(PY) -m tests.soak stream 1e9

scale: build $(VENV)/.test-ready
	$(PY) -m benchmarks.scale

# KERNEL is a tree, a tarball or a linux-source package, ORACLE the work folder, SETS other sets than the core ones.
oracle: build
	@test -n "$(KERNEL)" || { echo "make oracle KERNEL=path/to/linux: a tree, a tarball or a package" >&2; exit 2; }
	$(VENV)/bin/asi-pa oracle record $(KERNEL) $(SETS) $(if $(ORACLE),--work $(ORACLE))

clean:
	rm -rf $(VENV) build dist asi_pa.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find asi_pa benchmarks tests examples -name '__pycache__' -prune -exec rm -rf {} +
	find asi_pa '(' -name '*.so' -o -name '*.c' -o -name '*.html' ')' -delete
