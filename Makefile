# Every target makes the virtual environment and installs when needed, and says what it does.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-long lint check docs format bench bench-sparse bench-ssgnet bench-search bench-fuzz clean

demo: $(STAMP)  ## a real sweep on bundled images, a leaderboard, a configuration (a few minutes)
	@echo "== demo: searching SPARSE and supervised on digits, 5 labelled images per class"
	$(BIN)/sparse-search demo

# Two processes, and no threads of their own: a second thread would take the other process's core.
TWO := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --durations=25

test: $(STAMP)  ## the suite but for what takes a cluster; tests that need real data say that they are skipped unless SPARSE_SEARCH_DATA is set
	@echo "== test: the suite on two processes (some eight minutes on two cores)"
	$(TWO) --dist worksteal

test-long: $(STAMP)  ## sweeps disturbed and compared, clusters of several nodes on this machine
	@echo "== test-long: chaos, sealed masks, overhead; nodes killed and recalled, a link cut, sick nodes, sweeps as jobs and over SSH"
	$(TWO) --dist loadfile -m long

lint: $(STAMP)  ## format, lint, import contract, types, the reference
	@echo "== lint: format"
	$(BIN)/ruff format --check .
	@echo "== lint: rules"
	$(BIN)/ruff check .
	@echo "== lint: import contract"
	$(BIN)/lint-imports --no-logo
	@echo "== lint: types"
	$(BIN)/mypy
	@echo "== lint: reference and pages"
	@$(MAKE) --no-print-directory docs

check: lint  ## what to run before a commit: lint, and the fast tests
	@echo "== check: fast tests"
	$(TWO) --dist worksteal -q -m "not slow and not ray and not long" tests/search_spaces tests/sparse_search tests/trainables/core

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

bench-search: $(STAMP)  ## what a search finds for what it trains, replayed, and how much diverges; its overhead; how it survives 40 disturbances
	$(BIN)/python bench/search_quality.py
	$(BIN)/python bench/diverging.py
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/chaos.py

bench-fuzz: $(STAMP)  ## 20,000 odd and damaged inputs of every kind that is read: none may break anything (ten minutes)
	$(BIN)/python bench/fuzz.py

clean:  ## remove the environment and caches; results stay
	rm -rf $(VENV) build/docs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(STAMP): pyproject.toml
	@echo "== installing into $(VENV): about 6 GB with PyTorch's CUDA libraries, two to six minutes the first time"
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12 …')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(STAMP)
