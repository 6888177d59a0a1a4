#!/bin/sh
# Sets the kernel to what 60-throng.conf wants, now and at every boot, and takes it back.
#
# What was there before is written down before anything is changed, so that `--undo` works after an
# interruption too. Nothing that a host already has better is made worse.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=settings.sh
. "$here/settings.sh"

usage() {
    cat <<'END'
Usage: apply.sh [--dry-run] [--runtime] [--load-generator] [--root DIR]
       apply.sh --undo [--dry-run] [--load-generator] [--root DIR]

Sets the kernel to what 60-throng.conf wants: at once, and at boot by a file in /etc/sysctl.d.
Values that are as wanted or better stay as they are. Running it again is harmless.

  --dry-run          say what would be done, change nothing; needs no root
  --runtime          until the next boot only: write no file to /etc/sysctl.d
  --load-generator   60-throng-load.conf, for the host that generates the load
  --undo             put back what was there before and remove the file; a value that somebody
                     else has changed since stays
  --root DIR         put the file and the notes for --undo below DIR instead of /
  --help             this text

Exit status: 0 done, 1 some setting could not be set (each is named, all others are set),
2 nothing was tried.
END
}

refuse() {
    echo "apply.sh: $1" >&2
    exit 2
}

name=60-throng
action=apply
dry_run=
runtime=
root=
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry_run=yes ;;
        --runtime) runtime=yes ;;
        --load-generator) name=60-throng-load ;;
        --undo) action=undo ;;
        --root)
            [ $# -ge 2 ] || refuse "--root needs a folder"
            root=${2%/}
            shift
            ;;
        --help | -h) usage && exit 0 ;;
        *) refuse "unknown argument $1 (--help lists them)" ;;
    esac
    shift
done
[ "$action" = apply ] || [ -z "$runtime" ] || refuse "--runtime does not go with --undo"

list=$here/$name.conf
dropin=$root/etc/sysctl.d/$name.conf
notes=$root/var/lib/throng/$name.before # key, value before, value set; separated by tabs
signed="# Written by Throng's sysctl/apply.sh, whose $name.conf has the reasons; --undo removes it."
failed=0
done_count=0

if [ -z "$dry_run" ] && [ "$(id -u)" != 0 ]; then
    refuse "only root may change kernel settings: use sudo, or --dry-run to look"
fi
if [ -e "$dropin" ] && [ "$(head -n 1 "$dropin")" != "$signed" ]; then
    refuse "$dropin was not written by apply.sh: move it away first"
fi
wanted=$(settings "$list") || refuse "$list cannot be used"

fail() {
    echo "FAILED  $1" >&2
    failed=$((failed + 1))
}

# Writes standard input to a file as a whole or not at all.
replace() {
    mkdir -p "$(dirname "$1")"
    cat >"$1.new"
    mv "$1.new" "$1"
}

# The line of the notes about a key, if there is one.
noted() {
    [ -e "$notes" ] && awk -F "$TAB" -v key="$1" '$1 == key { print; exit }' "$notes"
}

# Sets one key: name, value, value before. Reads it back, since the kernel rounds or bounds some
# values without a word; then it is as before.
set_key() {
    if ! reason=$( (printf '%s\n' "$2" >"$(path_of "$1")") 2>&1); then
        echo "${reason##*: }"
        return 1
    fi
    now=$(actual_of "$1") || now=nothing
    if [ "$now" != "$2" ]; then
        echo "the kernel made it $now"
        printf '%s\n' "$3" >"$(path_of "$1")" || :
        return 1
    fi
}

# Every setting that differs, as lines of key, value now, value to set, "optional" or "needed".
plan() {
    while IFS=$TAB read -r how needed key value; do
        if now=$(actual_of "$key"); then
            target=$(target_of "$how" "$now" "$value")
            [ "$target" = "$now" ] || printf '%s\t%s\t%s\t%s\n' "$key" "$now" "$target" "$needed"
        elif [ "$needed" = needed ]; then
            printf '%s\t-\t%s\t%s\n' "$key" "$value" "$needed"
        fi
    done <<END
$wanted
END
}

# Writes the notes that the plan needs; what was there before the first time stays in them.
note_down() {
    {
        [ ! -e "$notes" ] || while IFS=$TAB read -r key before value; do
            case "$TAB$planned_keys$TAB" in
                *"$TAB$key$TAB"*) ;;
                *) printf '%s\t%s\t%s\n' "$key" "$before" "$value" ;;
            esac
        done <"$notes"
        while IFS=$TAB read -r key now target _; do
            [ -n "$key" ] || continue
            [ "$now" != - ] || continue
            old=$(noted "$key" | cut -f 2)
            printf '%s\t%s\t%s\n' "$key" "${old:-$now}" "$target"
        done <<END
$planned
END
    } | replace "$notes"
}

# The file for the next boot: what holds now, except where the host has better by itself.
write_dropin() {
    {
        echo "$signed"
        while IFS=$TAB read -r how needed key value; do
            now=$(actual_of "$key") || continue
            # Differs only if it could not be set, which was reported.
            [ "$(target_of "$how" "$now" "$value")" = "$now" ] || continue
            if [ "$now" = "$value" ] || [ -n "$(noted "$key")" ]; then
                [ "$needed" = needed ] || printf '-'
                echo "$key = $now"
            else
                echo "# $key is $now on this host: better than $value"
            fi
        done <<END
$wanted
END
    } | replace "$dropin"
    chmod 644 "$dropin"
}

apply() {
    planned=$(plan)
    planned_keys=$(printf '%s\n' "$planned" | cut -f 1 | tr '\n' "$TAB")
    if [ -z "$dry_run" ] && [ -n "$planned" ]; then
        note_down
    fi
    while IFS=$TAB read -r key now target needed; do
        [ -n "$key" ] || continue
        if [ "$now" = - ]; then
            fail "$key: this kernel or container has no such setting"
        elif [ -n "$dry_run" ]; then
            echo "would set  $key: $now -> $target"
        elif reason=$(set_key "$key" "$target" "$now"); then
            echo "set  $key: $now -> $target"
            done_count=$((done_count + 1))
        elif [ "$needed" = optional ]; then
            echo "skipped  $key, which not every host needs: $reason"
        else
            fail "$key: $now -> $target: $reason"
        fi
    done <<END
$planned
END
    if [ -n "$dry_run" ]; then
        [ -n "$runtime" ] || echo "would write  $dropin"
        [ -n "$planned" ] || echo "every setting is as wanted"
        return
    fi
    [ -n "$runtime" ] || write_dropin
    echo "$done_count set, $failed failed; ${runtime:+until the next boot; }--undo takes it back"
}

undo() {
    left=
    while IFS=$TAB read -r key before value; do
        [ -n "$key" ] || continue
        now=$(actual_of "$key") || now=nothing
        if [ "$now" = "$before" ]; then
            continue
        elif [ "$now" != "$value" ]; then
            echo "left  $key: somebody else has made it $now"
        elif [ -n "$dry_run" ]; then
            echo "would put back  $key: $now -> $before"
        elif reason=$(set_key "$key" "$before" "$now"); then
            echo "put back  $key: $now -> $before"
            done_count=$((done_count + 1))
        else
            fail "$key: $now -> $before: $reason"
            left="$left$key$TAB$before$TAB$value
"
        fi
    done <<END
$(cat "$notes" 2>/dev/null || :)
END
    if [ -n "$dry_run" ]; then
        [ ! -e "$dropin" ] || echo "would remove  $dropin"
        return
    fi
    rm -f "$dropin"
    if [ -n "$left" ]; then
        printf '%s' "$left" | replace "$notes"
    else
        rm -f "$notes"
    fi
    echo "$done_count put back, $failed failed"
}

$action
[ "$failed" = 0 ] || exit 1
