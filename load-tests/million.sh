#!/usr/bin/env bash
# Starts the engine and brings up N connections (default: a million) against it, as two processes on
# this host; ends with the table and with `throng-load million`'s status. Changes no setting of the
# host. `make million` builds both before.
#
#   N=30000 PING_INTERVAL=5s load-tests/million.sh [options of `throng-load million`]
#
# A ring's table is bounded by the limit on open files, so that limit decides how many shards the
# engine needs here; each thread of the generator has a ring of its own, and counts them itself.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

n=${N:-1000000}
ping_interval=${PING_INTERVAL:-25s}
port=${PORT:-5599}
target=${CARGO_TARGET_DIR:-target}
throng=${THRONG_BIN:-$target/release/throng}
load=${THRONG_LOAD:-$target/release/throng-load}

[[ $n =~ ^[1-9][0-9]*$ ]] || { echo "N must be a number of connections, not '$n'"; exit 2; }
for program in "$throng" "$load"; do
  [[ -x $program ]] || { echo "$program is missing: make million builds it"; exit 2; }
done

# The kernel spreads connections over shards by hash: a few percent more than their share must fit.
open_files=$(ulimit -Hn)
[[ $open_files == unlimited ]] && open_files=1048576
per_shard=$(((open_files - 256) * 94 / 100))
shards=$(((n + per_shard - 1) / per_shard))
cores=$(nproc)
((shards < cores)) && shards=$cores

# Both ends are on this host: about 11 KB of memory for each connection.
needed_mb=$((n * 11 / 1024 + 200))
free_mb=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
((free_mb > needed_mb)) || { echo "$n connections need $needed_mb MB; $free_mb are free"; exit 2; }

log=$(mktemp)
# Nothing is kept: this is about connections, and what a store caches would be counted with them.
DATA_DIR=none PORT=$port MAX_WORKERS=$shards MAX_CONNECTIONS=$((n + n / 10)) MAX_CONNECTIONS_PER_IP=0 \
  MESSAGE_RATE_LIMIT=0 PING_INTERVAL=$ping_interval LOG=warn "$throng" >"$log" 2>&1 &
server=$!
finish() {
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  rm -f "$log"
}
trap finish EXIT

echo "==> $shards shards for $n connections (limit on open files: $open_files)"
until grep -q '^  capacity' "$log"; do
  kill -0 "$server" 2>/dev/null || { cat "$log"; exit 2; }
  sleep 0.1
done
"$load" million --url "ws://127.0.0.1:$port" --server-pid "$server" --connections "$n" \
  --ping-interval "$ping_interval" "$@"
