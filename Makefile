# Two environments, as in real life: .venv runs the backend, .venv-blender is Blender (the bpy
# module). `make demo` and `make test` set up what they need; repeated runs skip what is there.
#
#   PYTHON=…           the Python of both environments (default: a 3.11 or 3.13 on the PATH)
#   BPY=…              another version of the bpy module, for example 4.5.15
#                      Another PYTHON or BPY than last time makes the environments anew; without
#                      them, those that are there are kept.
#   TORCH_PIP_ARGS=…   further options of pip for torch alone
#   SKIP_BLENDER=1     `make test` leaves out what needs a Blender

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
export BPY TORCH_PIP_ARGS
unexport PYTHONPATH PYTHONHOME

.PHONY: help demo test lint venvs setup addon clean distclean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo: venvs ## the main job, end to end, in a headless Blender; results in demo/
	.venv/bin/head360 demo --out demo

test: lint .venv/.ready $(if $(SKIP_BLENDER),,.venv-blender/.ready) ## lint, types and all tests
	.venv/bin/python -m pytest tests/unit tests/protocol tests/backend
	$(if $(SKIP_BLENDER),@echo "Tests of the extension skipped: SKIP_BLENDER is set.",scripts/addon_tests.sh)

lint: .venv/.ready ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/mypy

venvs: .venv/.ready .venv-blender/.ready ## both environments
setup: venvs ## the same

addon: .venv/.ready ## the extension zip, in dist/
	.venv/bin/python build_addon.py --out dist

# FORCE where the stamp $1 was made with another value of $2 than the one that is given now, $3.
changed = $(if $(and $3,$(wildcard $1)),$(shell grep -qxF '$2=$3' $1 || echo FORCE))

.PHONY: FORCE
FORCE:

.venv/.ready: pyproject.toml constraints.txt scripts/backend_env.sh \
		$(call changed,.venv/.ready,python,$(PYTHON))
	@scripts/backend_env.sh "$(PYTHON)"

.venv-blender/.ready: pyproject.toml scripts/blender_env.sh \
		$(call changed,.venv-blender/.ready,python,$(PYTHON)) \
		$(call changed,.venv-blender/.ready,bpy,$(BPY)) | .venv/.ready
	@scripts/system_libs.sh
	@scripts/blender_env.sh "$(PYTHON)"

clean: ## what builds, tests and the demo left behind
	rm -rf build dist demo .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find backend blender_addon tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## the environments too
	rm -rf .venv .venv-blender backend/*.egg-info
