#!/bin/sh
# Prints what the kernel should be set to beside what it is set to. Reads only; needs no root.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=settings.sh
. "$here/settings.sh"

usage() {
    cat <<'END'
Usage: verify.sh [--load-generator] [--pid PID]

Prints a table of the settings in 60-throng.conf: wanted, actual, ok. Below it stand counters that
tell whether a limit has been met since boot; they are hints and decide nothing.

  --load-generator   60-throng-load.conf, for the host that generates the load
  --pid PID          the limits of a running process too
  --help             this text

Exit status: 0 all is as wanted, 1 something is not, 2 nothing was looked at.
END
}

refuse() {
    echo "verify.sh: $1" >&2
    exit 2
}

list=$here/60-throng.conf
pid=
while [ $# -gt 0 ]; do
    case $1 in
        --load-generator) list=$here/60-throng-load.conf ;;
        --pid)
            [ $# -ge 2 ] || refuse "--pid needs a process id"
            pid=$2
            shift
            ;;
        --help | -h) usage && exit 0 ;;
        *) refuse "unknown argument $1 (--help lists them)" ;;
    esac
    shift
done
if [ -n "$pid" ] && [ ! -r "/proc/$pid/limits" ]; then
    refuse "there is no process $pid whose limits can be read"
fi
proc=/proc/${pid:-self}
wanted=$(settings "$list") || refuse "$list cannot be used"
missing=0

row() { # setting, wanted, actual, ok
    printf '%-38s %-26s %-26s %s\n' "$1" "$2" "$3" "$4"
    [ "$4" != NO ] || missing=$((missing + 1))
}

check_settings() {
    row setting wanted actual ok
    while IFS=$TAB read -r how needed key value; do
        if now=$(actual_of "$key"); then
            ok=NO
            [ "$(target_of "$how" "$now" "$value")" != "$now" ] || ok=yes
            row "$key" "$how $value" "$now" $ok
        elif [ "$needed" = optional ]; then
            row "$key" "$how $value" none "not needed"
        else
            row "$key" "$how $value" "not to be seen" NO
        fi
    done <<END
$wanted
END
}

# A limit of the process: name in /proc/PID/limits, soft or hard.
limit() {
    awk -v name="Max $1" -v column="$2" '
        index($0, name) == 1 { $0 = substr($0, length(name) + 1); print $column; exit }
    ' "$proc/limits"
}

check_limit() { # setting, wanted, actual
    ok=yes
    case $3 in
        unlimited | max) ;;
        *) [ "$2" != unlimited ] && [ "$3" -ge "$2" ] || ok=NO ;;
    esac
    row "$1" ">= $2" "$3" $ok
}

# What the drop-in for systemd gives a limit.
given() {
    awk -F = -v name="$1" '$1 == name { print $2 }' "$here/limits/throng.service.d-limits.conf"
}

# Bytes: half of it for a shard's rings and buffers, half for a predecessor's that still ends.
LOCKED_PER_SHARD=$((1 << 20))

check_process() {
    # A shard's helper thread has its name.
    shards=$(cat "$proc"/task/*/comm 2>/dev/null | sort -u | grep -c '^shard-') || :
    check_limit "open files (hard)" "$(given LimitNOFILE)" "$(limit 'open files' 2)"
    capabilities=$(awk '$1 == "CapEff:" { print $2 }' "$proc/status")
    if [ $((0x$capabilities >> 14 & 1)) = 1 ]; then
        row "locked memory" "any" "not counted (CAP_IPC_LOCK)" yes
    else
        check_limit "locked memory, $shards shards" $((LOCKED_PER_SHARD * (shards ? shards : 1))) \
            "$(limit 'locked memory' 2)"
    fi
    group=/sys/fs/cgroup$(awk -F : '$1 == 0 { print $3 }' "$proc/cgroup")
    if [ -r "$group/pids.max" ]; then
        check_limit "tasks of its cgroup" "$(given TasksMax)" "$(cat "$group/pids.max")"
    fi
}

# Counters of /proc/net/netstat and /proc/net/snmp: a line of names, then a line of numbers.
counter() {
    awk -v name="$1" '
        $1 != group { group = $1; for (i = 1; i <= NF; i++) at[$1, $i] = i; next }
        ($1, name) in at { print $at[$1, name]; exit }' "$proc/net/netstat"
}

# A column of /proc/net/softnet_stat, in hexadecimal digits, summed over the cores.
softnet() {
    sum=0
    while IFS= read -r count; do
        sum=$((sum + 0x$count))
    done <<END
$(cut -d ' ' -f "$1" "$proc/net/softnet_stat")
END
    echo $sum
}

hint() {
    printf '%-38s %-26s %s\n' "$1" "$2" "$3"
}

hints() {
    echo
    echo "Since boot, and now (TCP: of this network namespace):"
    hint ListenOverflows "$(counter ListenOverflows)" "grows: somaxconn, or accepting is too slow"
    hint "softnet drops" "$(softnet 2)" "grows: netdev_max_backlog"
    hint "softnet squeezed" "$(softnet 3)" "grows: netdev_budget, or too few receive queues"
    hint TCPMemoryPressures "$(counter TCPMemoryPressures)" "grows: tcp_mem, or slow readers"
    hint TCPTimeWaitOverflow "$(counter TCPTimeWaitOverflow)" "grows: tcp_max_tw_buckets"
    hint TCPAbortOnMemory "$(counter TCPAbortOnMemory)" "grows: tcp_max_orphans, tcp_mem"
    tcp=$(awk '$1 == "TCP:" { print $3 " open, " $7 " waiting" }' "$proc/net/sockstat")
    hint "TCP sockets" "$tcp" "waiting: in TIME_WAIT"
    hint "pages of buffers" "$(awk '$1 == "TCP:" { print $11 }' "$proc/net/sockstat")" \
        "tcp_mem: $(actual_of net.ipv4.tcp_mem || echo "the host's")"
    hint "hash buckets of connections" "$(actual_of net.ipv4.tcp_ehash_entries || echo '?')" \
        "boot with thash_entries=1048576 for more; below 0: the host's"
    if tracked=$(actual_of net.netfilter.nf_conntrack_count); then
        hint "connections tracked" "$tracked" "0 under load: nf_conntrack does not matter here"
    fi
    if off=$(actual_of kernel.io_uring_disabled); then
        hint kernel.io_uring_disabled "$off" "0, or 1 with the user in io_uring_group"
    fi
}

check_settings
[ -z "$pid" ] || check_process
hints
[ "$missing" = 0 ] || {
    echo
    echo "$missing not as wanted: apply.sh sets the kernel, limits/ has the rest"
    exit 1
}
