# Two commands are enough: `make demo` shows ifagent at work, `make test` checks it.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Debian has system programs where ordinary users do not look.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# What an interrupted run, or another version of Python, has left of an environment is made anew.
$(shell [ ! -e .venv ] || { [ ! -e .venv/unfinished ] && $(BIN)/python -c 'import pip'; } 2>/dev/null || rm -rf .venv)

.PHONY: demo test system-packages clean

demo: .venv/installed-demo
	$(BIN)/ifagent demo

test: system-packages .venv/installed-nox
	$(BIN)/nox

HAS_VENV := $(PYTHON) -c 'import ensurepip' 2>/dev/null

# $(call need,CHECK,WHY,PACKAGES): packages are installed as root, unless the check passes; else one line says what to run.
define need
@if $(1); then :; \
elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends $(3); \
else \
	echo "$(2) Please run: sudo apt-get install $(3)" >&2; exit 1; \
fi >/dev/null
endef

.venv/bin/python:
	$(call need,$(HAS_VENV),Python cannot make environments.,python3-venv)
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/installed-demo: .venv/bin/python pyproject.toml
	@touch .venv/unfinished
	$(PIP) -e .
	@rm .venv/unfinished; touch $@

.venv/installed-nox: .venv/bin/python pyproject.toml
	@touch .venv/unfinished
	$(PIP) "nox>=2025.5,<2027"
	@rm .venv/unfinished; touch $@

# The tests need a real etcd, a real docker daemon and the commands of iproute2.
PACKAGES := python3-venv etcd-server etcd-client iproute2 iputils-ping ethtool docker.io busybox-static
PROGRAMS := etcd etcdctl ip ping ethtool dockerd busybox
HAS_PROGRAMS := ! for each in $(PROGRAMS); do command -v $$each || echo; done | grep -qx ''
system-packages:
	$(call need,$(HAS_VENV) && $(HAS_PROGRAMS),The tests need some programs.,$(PACKAGES))

clean:
	rm -rf .venv .nox dist build
