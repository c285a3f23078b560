#!/bin/sh
# What this machine needs beside Python packages: a Python, a C and C++ compiler, an OpenGL software renderer.
# As root on Debian or Ubuntu the missing ones are installed; elsewhere one message names them all.
set -eu

python=${PYTHON:-python3}
missing=''

need() {  # package, what it is for
    missing="$missing $1"
    echo "Missing: $2" >&2
}

if ! command -v "$python" >/dev/null 2>&1; then
    need 'python3 python3-venv python3-dev' "$python, 3.10 to 3.13"
elif ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; then
    echo "Expected Python 3.10 to 3.13, found $("$python" --version)." >&2
    echo 'Set another one: make demo PYTHON=python3.12' >&2
    exit 1
else
    "$python" -c 'import ensurepip, venv' 2>/dev/null || need python3-venv 'the venv module of Python'
    "$python" -c 'import os, sysconfig as s; open(os.path.join(s.get_path("include"), "Python.h"))' \
        2>/dev/null || need python3-dev 'the C headers of Python (Python.h)'
fi
command -v cc >/dev/null 2>&1 || need gcc 'a C compiler (cc)'
command -v c++ >/dev/null 2>&1 || need g++ 'a C++ compiler (c++)'

library() {
    ldconfig -p 2>/dev/null | grep -q "$1\.so" || ls /usr/lib/*/"$1".so* /usr/lib/"$1".so* >/dev/null 2>&1
}
if ! library libOSMesa && ! { library libEGL && library libGLESv2; }; then
    need 'libegl1 libgl1-mesa-dri libgles2' 'an OpenGL software renderer (EGL with Mesa, or OSMesa)'
fi

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing" >&2
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >&2 && exit 0
fi
echo "Install them first. On Debian or Ubuntu:  sudo apt-get install$missing" >&2
exit 1
