# Every target does its own set-up in .venv; see tools/setup-venv.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all check bench bench-quick docs screenshots site simulate fuzz soak clean venv

PYTHON_IN_VENV := .venv/bin/python

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | column -t -s '|'

venv: # the virtual environment, made anew when pyproject.toml changed
	@tools/setup-venv .venv

demo: venv ## start a controller and 4 engines, and price options on them from IPython
	@$(PYTHON_IN_VENV) demo/options.py

test: venv ## the tests
	@tools/setup-debian
	$(PYTHON_IN_VENV) -m pytest -m "not slow"

test-all: ## all tests, slow ones too, on each Python from 3.11 on that is here
	@tools/test-all

check: venv ## format, lint, types and the fast tests
	$(PYTHON_IN_VENV) -m ruff format ipkernel_ext tests tools demo benchmarks
	$(PYTHON_IN_VENV) -m ruff check ipkernel_ext tests tools demo benchmarks
	$(PYTHON_IN_VENV) -m mypy
	$(PYTHON_IN_VENV) -m pytest -q -x tests/core tests/config tests/execution tests/test_architecture.py tests/test_payload.py tests/test_targets.py

bench: venv ## our figures beside the peers' and a bare ZeroMQ broker's, in one run (an hour)
	@$(PYTHON_IN_VENV) -m benchmarks
	@$(PYTHON_IN_VENV) -m benchmarks.data
	@$(PYTHON_IN_VENV) -m benchmarks.scale
	@$(PYTHON_IN_VENV) -m benchmarks.spread

bench-quick: venv ## the same in three minutes, with less of everything
	@$(PYTHON_IN_VENV) -m benchmarks --quick

simulate: venv ## SEEDS=n runs of the simulated cluster
	@$(PYTHON_IN_VENV) -m tests.simulation --seeds $(or $(SEEDS),1000)

fuzz: venv ## MINUTES=n of odd bytes for the decoder and the controller's core
	@$(PYTHON_IN_VENV) -m pip install -q -e '.[fuzz]' || echo "atheris cannot be installed for `$(PYTHON_IN_VENV) --version`"
	@$(PYTHON_IN_VENV) -m tests.fuzzing --seconds $$((60 * $(or $(MINUTES),3)))

soak: venv ## MINUTES=n (30) of random work while engines, controllers and clients are killed
	@$(PYTHON_IN_VENV) -m tests.soak --seconds $$((60 * $(or $(MINUTES),30)))

docs: venv ## write the generated pages under docs/
	@$(PYTHON_IN_VENV) tools/generate_docs.py

screenshots: venv ## take the pictures of the documentation, docs/images (needs chromium)
	@tools/setup-debian
	@$(PYTHON_IN_VENV) -m tools.make_screenshots

site: docs ## the documentation as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 $(PYTHON_IN_VENV) -m mkdocs build --strict -q

clean: ## remove what was made
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
