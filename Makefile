# make ladder    rehearse every script on this CPU, and predict its GPU memory; after Ctrl-C it goes
#                on where it was (rows in results/local/ are kept as long as nothing has changed)
# make check     style and the quick tests, while you work
# make test      all checks, style included, on all cores; of the rows of all scripts, those are made
#                anew whose script, packages or versions have changed since they were recorded
# make test-all  the same, with all rows made anew
# make test-some the same, with a third of them made anew, another after each change: what CI runs
# make lint      style alone
# make site      docs/ as a site, in website/build/html/index.html
# make results   take over what this machine found (results/local/) into results/, and make figures,
#                the README's tables and the pages in docs/ anew from it and from the scripts;
#                RUNG=script.py: only that script's rows
# make rung      all of this for one script: RUNG=script.py
# make notebooks run the notebooks anew, and keep what they show
# make versions  predict some scripts in older and newer versions of PyTorch, each in an environment
#                of its own for as long as that takes; several GB each
# make mutants   which errors in the code that decides a figure no test would notice; hours for all of
#                them, but it goes on where Ctrl-C ended it. SAMPLE=100: a hundred of them by chance
#                (SEED=1: others); ONLY=vramcast/gpus.py: those of a module
# make lock      requirements.lock anew, after a change of requirements in pyproject.toml; what is in
#                it stays where it still fits (delete the file first to have the newest of all else)
#
# Each target but the last sets up .venv first, once, with Python 3.11 or newer and the packages of
# requirements.lock.

BASE_PYTHON ?= $(shell command -v python3.11 || command -v python3)
PYTHON := .venv/bin/python
READY := .venv/installed
QUICK := tests/test_action.py tests/test_allocator.py tests/test_cost_rules.py \
	tests/test_data_parallel.py tests/test_fingerprints.py tests/test_gpu.py tests/test_gpus.py \
	tests/test_growth.py tests/test_ladder.py tests/test_log.py tests/test_packaging.py \
	tests/test_pinned.py tests/test_ranges.py tests/test_repository.py tests/test_sequences.py \
	tests/test_skill.py tests/test_stand_ins.py tests/test_verdict.py tests/test_written_files.py

.PHONY: ladder check test test-all test-some lint site results rung notebooks versions mutants lock

ladder: $(READY)
	@failed=0; stage=0; \
	for command in 'rehearse.py --resume' '-m ladder.predict --resume' \
		'-m ladder.predict --resume --as-of 2023' '-m ladder.summary'; do \
		stage=$$((stage + 1)); \
		printf '\nStage %d of 4: python %s\n\n' $$stage "$$command"; \
		$(PYTHON) $$command || { [ $$? != 130 ] || exit 130; failed=1; }; \
	done; \
	exit $$failed  # 130 is Ctrl-C; all else costs the others nothing

check: lint
	$(PYTHON) -m pytest -q $(QUICK)

test: lint
	$(PYTHON) -m pytest -n auto --maxprocesses 4 --dist loadgroup

test-all: export SHARE := 1
test-all: test

test-some: export SHARE := 3
test-some: test

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

site: $(READY)
	$(PYTHON) -m website.build

results: $(READY)
	$(PYTHON) -m ladder.record $(RUNG)
	$(PYTHON) -m ladder.pages

rung: $(READY)
	@[ -n "$(RUNG)" ] || { echo 'which script? make rung RUNG=03-5_name.py'; exit 1; }
	$(PYTHON) rehearse.py $(RUNG)
	$(PYTHON) -m ladder.predict $(RUNG)
	$(PYTHON) -m ladder.record $(RUNG)
	$(PYTHON) -m ladder.pages

notebooks: $(READY)
	$(PYTHON) -m ladder.notebooks

versions: $(READY)
	$(PYTHON) -m benchmarks.versions

mutants: $(READY)
	$(PYTHON) -m benchmarks.mutants $(ONLY) $(if $(SAMPLE),--sample $(SAMPLE)) --seed $(or $(SEED),0)

lock:
	$(BASE_PYTHON) -m venv .venv/uv
	.venv/uv/bin/python -m pip install --quiet uv==0.13.9
	.venv/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
		--annotation-style line --custom-compile-command 'make lock' \
		--output-file requirements.lock pyproject.toml

$(READY): requirements.lock
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make BASE_PYTHON=/path/to/python3.11'; exit 1; }
	@echo 'Installing packages into .venv: about four minutes and 7 GB, once'
	$(BASE_PYTHON) -m venv .venv
	$(PYTHON) -m pip install -r requirements.lock
	$(PYTHON) -m pip install --no-deps --no-build-isolation --editable .  # the command vramcast
	touch $@
