# make demo            writes synthetic scenes, trains a network on them, evaluates it
# make demo DATA=DIR   the same on a MiniPlaces folder (scenelab data download DIR makes one)
# make test            linters, types, import rules, fast tests
# make test-all        all tests
# make docs            the documentation as a site, in site/; a broken link or reference fails
# make gpu             compares a GPU with the CPU and measures its speed, in under eight minutes; writes gpu.json
# make soak            faults in full: hundreds of kills, full and broken disks, fuzzing, an hour of everything; more than an hour
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test test-all docs gpu soak install clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps torchattacks==3.5.1  # it pins requests of 2020, which it does not need
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/scenelab demo $(if $(DATA),--data $(DATA))

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python docs/figures.py --check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup tests/unit tests/oracle tests/property

test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

docs: $(STAMP)-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(STAMP)-docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

gpu: $(STAMP)
	$(BIN)/python -m benchmarks gpu

soak: $(STAMP)
	rm -rf soak
	SCENELAB_SOAK=1 SCENELAB_FUZZ_SECONDS=120 SCENELAB_FAULTS_OUT=soak OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --durations 0 tests/soak tests/faults tests/fuzz; \
	status=$$?; $(BIN)/python tests/faults/table.py soak; exit $$status

clean:
	rm -rf demo site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
