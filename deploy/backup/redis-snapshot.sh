#!/usr/bin/env bash
# Copies Redis's own snapshot (RDB) beside a running Redis: asks for a new one, waits until it is
# written and well, copies it with its checksum and keeps the newest few.
#
# Redis holds what may be lost (recent messages, presence); the store is what `throng backup` copies.
# The file Redis writes must be readable here: run it on Redis's host, or give RDB_FILE.
#
#   REDIS_URL        redis://[user@]host:port, rediss:// too; default redis://127.0.0.1:6379.
#                    A password in it is refused: it would show in the list of processes.
#   REDISCLI_AUTH    the password; redis-cli reads it from the environment
#   RDB_FILE         the snapshot's path, default: what Redis itself says
#   SNAPSHOT_WAIT_S  how long a snapshot may take, default 600
#
# Exit codes: 0 done, 1 failed, 2 wrong use, 75 another run is under way.
set -euo pipefail
umask 077

to=/var/lib/throng/redis-backups
keep=7
dry_run=0
url=${REDIS_URL:-redis://127.0.0.1:6379}
wait_s=${SNAPSHOT_WAIT_S:-600}

usage() {
    echo "usage: redis-snapshot.sh [--to DIR] [--keep N] [--dry-run]" >&2
    exit 2
}

fail() {
    echo "redis-snapshot: $1" >&2
    exit "${2:-1}"
}

while (($#)); do
    case $1 in
    --to | --keep)
        (($# > 1)) || usage
        if [[ $1 == --to ]]; then to=$2; else keep=$2; fi
        shift
        ;;
    --dry-run) dry_run=1 ;;
    *) usage ;;
    esac
    shift
done
[[ -n $to && $keep =~ ^[1-9][0-9]{0,5}$ && $wait_s =~ ^[1-9][0-9]{0,5}$ ]] || usage
[[ $url != *://*:*@* ]] || fail "put the password into REDISCLI_AUTH, not into REDIS_URL" 2

redis() {
    timeout 30 redis-cli -u "$url" --no-auth-warning "$@" </dev/null
}

# Puts one field of INFO persistence into `found`. redis-cli exits with 0 even where the server refuses.
persistence() {
    local all
    all=$(redis INFO persistence) || fail "Redis does not answer at ${url##*@}"
    [[ $all == *rdb_bgsave_in_progress:* ]] || fail "Redis refuses: ${all%%$'\n'*}"
    found=$(sed -n "s/^$1:\([^[:cntrl:]]*\).*/\1/p" <<<"$all")
}

# Puts into `found` when Redis has saved last, in seconds.
last_save() {
    found=$(redis LASTSAVE) || fail "Redis does not answer at ${url##*@}"
    [[ $found =~ ^[0-9]+$ ]] || fail "LASTSAVE: $found"
}

setting() {
    redis CONFIG GET "$1" | sed -n 2p
}

# Complete snapshots, oldest first; what has another name is not ours.
snapshots() {
    local path
    for path in "$to"/redis-*.rdb; do
        if [[ ${path##*/} =~ ^redis-[0-9]{8}T[0-9]{6}\.[0-9]{3}Z\.rdb$ && -f $path && ! -L $path ]]; then
            echo "$path"
        fi
    done
}

# Deletes the oldest beyond so many; never $2.
thin() {
    local others paths path
    others=$(($1 - 1))
    mapfile -t paths < <(snapshots | grep -vxF -- "$2" || true)
    for path in "${paths[@]:0:$((${#paths[@]} > others ? ${#paths[@]} - others : 0))}"; do
        if ((dry_run)); then
            echo "would delete $path"
        else
            rm -f -- "$path" "$path.sha256"
            echo "deleted $path, beyond the $keep that are kept"
        fi
    done
}

# Whether a snapshot is being written.
under_way() {
    persistence rdb_bgsave_in_progress
    [[ $found == 1 ]]
}

# Makes Redis write a snapshot that begins after this call, within `wait_s`.
snapshot() {
    local deadline=$((SECONDS + wait_s)) before was answer begun seen=0
    while under_way; do
        ((SECONDS < deadline)) || fail "the snapshot under way takes more than $wait_s s"
        sleep 0.2
    done
    persistence rdb_last_bgsave_status && was=$found
    last_save && before=$found
    # LASTSAVE counts seconds: two within one look alike.
    sleep 1.1
    answer=$(redis BGSAVE SCHEDULE) || fail "Redis does not answer at ${url##*@}"
    [[ $answer == "Background saving"* ]] || fail "BGSAVE: $answer"
    begun=$SECONDS
    while true; do
        if under_way; then
            seen=1
        else
            last_save
            ((found <= before)) || break
            persistence rdb_last_bgsave_status
            # A status that was bad before says nothing until a new snapshot has begun.
            if [[ $found != ok ]] && { [[ $was == ok ]] || ((seen || SECONDS > begun + 10)); }; then
                fail "Redis could not write its snapshot (its log says why)"
            fi
        fi
        ((SECONDS < deadline)) || fail "the snapshot takes more than $wait_s s"
        sleep 0.2
    done
    persistence rdb_last_bgsave_status
    [[ $found == ok ]] || fail "Redis could not write its snapshot (its log says why)"
}

command -v redis-cli >/dev/null || fail "redis-cli is missing (Debian: redis-tools)"
persistence loading
[[ $found != 1 ]] || fail "Redis is still loading its data"
file=${RDB_FILE:-$(setting dir)/$(setting dbfilename)}
[[ $file == /*/* ]] || fail "Redis does not say where its snapshot is; set RDB_FILE"
name=redis-$(date -u +%Y%m%dT%H%M%S.%3NZ).rdb

if ((dry_run)); then
    echo "would ask Redis for a snapshot and copy $file to $to/$name"
    [[ ! -d $to ]] || thin "$keep" ""
    exit 0
fi

mkdir -p -- "$to"
exec 9>"$to/.redis-snapshot.lock"
flock -n 9 || fail "another run is under way in $to" 75
rm -f -- "$to"/.redis-*.partial # of runs that were cut off: this one has the lock
partial=$to/.$name.partial
trap 'rm -f -- "$partial"' EXIT

snapshot
# Redis replaces its file by renaming: what is open stays one snapshot.
cp -- "$file" "$partial" || fail "cannot copy $file"
[[ $(head -c 5 "$partial") == REDIS ]] || fail "$file is no snapshot of Redis"
if command -v redis-check-rdb >/dev/null; then
    redis-check-rdb "$partial" >/dev/null || fail "$file is damaged"
fi
sum=$(sha256sum <"$partial")
echo "${sum%% *}  $name" >"$to/$name.sha256"
sync -- "$partial" "$to/$name.sha256"
mv -- "$partial" "$to/$name"
sync -- "$to"
echo "made $to/$name: $(stat -c %s -- "$to/$name") bytes"
thin "$keep" "$to/$name"
