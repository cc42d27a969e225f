# Every target makes the virtual environment and installs when needed, and says what it does.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-long check docs format bench bench-sparse bench-ssgnet bench-search clean

demo: $(STAMP)  ## a real sweep on bundled images, a leaderboard, a configuration (a few minutes)
	@echo "== demo: searching SPARSE and supervised on digits, 5 labelled images per class"
	$(BIN)/sparse-search demo

test: $(STAMP)  ## the suite but for what takes minutes a test; tests that need real data say that they are skipped unless SPARSE_SEARCH_DATA is set
	@echo "== test: the suite on two processes (some twenty minutes on two cores)"
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-long: $(STAMP)  ## sweeps disturbed and compared, clusters of several nodes on this machine, one after the other
	@echo "== test-long: chaos, sealed labels, overhead; nodes killed and recalled, a link cut, sick nodes, sweeps as jobs and over SSH"
	$(BIN)/python -m pytest -m long

check: $(STAMP)  ## format, lint, import contract, types, fast tests
	@echo "== check: format"
	$(BIN)/ruff format --check .
	@echo "== check: lint"
	$(BIN)/ruff check .
	@echo "== check: import contract"
	$(BIN)/lint-imports --no-logo
	@echo "== check: types"
	$(BIN)/mypy
	@echo "== check: reference and pages"
	@$(MAKE) --no-print-directory docs
	@echo "== check: fast tests"
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not ray" tests/search_spaces tests/sparse_search tests/trainables/core

docs: $(STAMP)  ## the reference made of the docstrings, and the pages of docs/: build/docs/index.html (half a minute)
	$(BIN)/python -m sphinx -b html -q -E -n -W --keep-going docs build/docs

format: $(STAMP)  ## put everything into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## how long the commands take to start, and a leaderboard over a million runs (three minutes)
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/leaderboard.py

bench-sparse: $(STAMP)  ## a step of SPARSE against its naive form: seconds, operations, memory (about ten minutes)
	$(BIN)/python bench/sparse_step.py

bench-ssgnet: $(STAMP)  ## StyleGAN3's nonlinearity and steps, the selective scan, against their plain forms (three minutes)
	$(BIN)/python bench/ssgnet.py

bench-search: $(STAMP)  ## what a search finds for what it trains, replayed; its overhead; and how it survives 20 disturbances
	$(BIN)/python bench/search_quality.py
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/chaos.py

clean:  ## remove the environment and caches; results stay
	rm -rf $(VENV) build/docs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(STAMP): pyproject.toml
	@echo "== installing into $(VENV): about 6 GB with PyTorch's CUDA libraries, two to six minutes the first time"
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12 …')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(STAMP)
