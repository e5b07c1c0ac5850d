# Two commands are enough: `make demo` shows ifagent at work, `make test` checks it.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test environment system-packages clean

demo: .venv/installed-demo
	$(BIN)/ifagent demo

test: .venv/installed-nox system-packages
	$(BIN)/nox

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed-demo: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-nox: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "nox>=2025.5,<2027"
	@touch $@

# The tests need a real etcd, a real docker daemon and the ip command. As root they are installed, else one line says what to run.
PACKAGES := etcd-server etcd-client iproute2 iputils-ping ethtool docker.io busybox-static
system-packages:
	@if command -v etcd && command -v etcdctl && command -v ip && command -v ping && command -v ethtool \
		&& command -v dockerd && command -v busybox; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends $(PACKAGES); \
	else \
		echo "The tests need some programs. Please run: sudo apt-get install $(PACKAGES)" >&2; exit 1; \
	fi >/dev/null

clean:
	rm -rf .venv .nox dist build
