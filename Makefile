# `make sweep` and `make test` need Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
NAME ?= augment-scenes-$(shell date +%Y%m%d-%H%M%S)

.PHONY: install sweep test faults lint types check clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time) ..."
	@$(PY) -m pip install -qq --upgrade pip
	@$(PY) -m pip install -qq --constraint constraints.txt --editable '.[test]'
	@touch $@

sweep: install
	$(PY) -m sweep.run --space augment --set image_size=48x64 --name $(NAME)
	$(PY) -m analysis.report runs/$(NAME)

test: install
	$(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --ignore tests/faults

faults: install
	$(PY) -m pytest tests/faults

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: install
	$(PY) -m mypy

check: lint types test faults

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
