#!/usr/bin/env bash
# Installs the programs that the tests drive but pip cannot bring: a browser for the pages,
# Prometheus for the exposition and the alert rules, PostgreSQL for the second database, and a C++
# compiler for the statistics. Quiet when all are there. Without root it prints what to run.
set -euo pipefail

missing=()
command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
{ command -v prometheus && command -v promtool; } >/dev/null || missing+=(prometheus)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null \
  || missing+=(postgresql)
command -v g++ >/dev/null || missing+=(g++)

if ((${#missing[@]} == 0)); then
  exit 0
fi

install=(apt-get install --yes --no-install-recommends "${missing[@]}")
if ! command -v apt-get >/dev/null; then
  echo "The tests need: ${missing[*]}. Install them with this system's package manager." >&2
  exit 1
fi
if ((EUID != 0)); then
  echo "The tests need: ${missing[*]}. Run: sudo apt-get update && sudo ${install[*]}" >&2
  exit 1
fi
# No service may start on a build machine; the tests start their own on free ports.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update --quiet --quiet
"${install[@]}" --quiet --quiet
