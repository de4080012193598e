#!/usr/bin/env bash
# Formats, lints, type-checks and unit-tests the dashboard's modules, as deno.json says.
set -euo pipefail
deno fmt --check
deno lint
deno check
deno test --no-prompt
