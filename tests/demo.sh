#!/bin/sh
# SPDX-License-Identifier: MIT
# Moves a live redis-server with 200 MB between two devices made of namespaces, and says how it went.
# BATON=path of the binary; without it the one that `make` built.
cd "$(dirname "$0")/.." || exit 1
if [ "$(id -u)" != 0 ]; then
	echo "make demo: must be run as root (it makes namespaces and moves a process)" >&2
	exit 1
fi
BATON=${BATON:-$(make -s print-binary)} exec /usr/bin/python3 -B tests/lib/demo.py "$@"
