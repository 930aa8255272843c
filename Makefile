# Each target does all its set-up on a machine that has only python3 (3.11 or later) and make.
PYTHON ?= python3
PY := .venv/bin/python
# Bytecode is kept: every process that Ray or a test starts would compile the source anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test bench lock clean

demo: .venv/installed  ## draws photographs, searches six ways to balance them, writes a report
	$(PY) jobs/tune_balancing.py demo

test: .venv/installed  ## formatting, lint and tests
	.venv/bin/ruff format --check . && .venv/bin/ruff check . && $(PY) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

bench: .venv/installed  ## every hot path against its best peer; prints the ratios
	for path in tables driver prepare scan duplicates input_pipeline prepared ray_overhead training_step adversarial corruptions attacks decision_attacks attribution neurons selective tiles pool; do $(PY) benchmarks/$$path.py || exit 1; done

lock:  ## pins every dependency with its hash
	$(PYTHON) -m venv .venv/uv && .venv/uv/bin/pip install --quiet uv
	.venv/uv/bin/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"needs Python 3.11 or later, {sys.executable} is {v[0]}.{v[1]}; give make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	@# pip would compile on one core; files that are no Python 3 are in some packages' own tests
	.venv/bin/python -m compileall -qq -j 0 .venv/lib || true
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:  ## removes the environment; runs/ stays
	rm -rf .venv
