# Reads the lists of settings, for apply.sh and verify.sh. Not a program: they source it.
# shellcheck shell=sh

# shellcheck disable=SC2034 # used by both programs
TAB=$(printf '\t')

# The list as lines of: comparison, "optional" or "needed", key, value; separated by tabs. Fails and
# names the line where one gives no comparison or no value.
settings() {
    awk -v file="$1" '
        /^# (>=|<=|=) ./ { how = $2; next }
        /^#   / || /^[ \t]*$/ { next }
        /^#/ { how = ""; next }
        {
            at = index($0, "=")
            key = substr($0, 1, at - 1)
            value = substr($0, at + 1)
            gsub(/[ \t]/, "", key)
            gsub(/^[ \t]+|[ \t]+$/, "", value)
            if (at == 0 || how == "" || key !~ /^-?[a-z]/ || value !~ /^[0-9]+([ \t]+[0-9]+)*$/) {
                why = "not a setting with its comparison"
                printf "%s:%d: %s: %s\n", file, NR, why, $0 > "/dev/stderr"
                exit 1
            }
            print how "\t" (sub(/^-/, "", key) ? "optional" : "needed") "\t" key "\t" value
            how = ""
        }' "$1"
}

path_of() {
    printf '/proc/sys/%s\n' "$(printf '%s' "$1" | tr . /)"
}

# The kernel's value, its numbers separated by single spaces; fails where there is none to be seen.
actual_of() {
    numbers=$(cat "$(path_of "$1")" 2>/dev/null) && [ -n "$numbers" ] || return 1
    # shellcheck disable=SC2086 # split on purpose
    echo $numbers
}

# What the kernel's value has to become: comparison, actual, wanted. Each number moves no further
# than the comparison asks, so the answer is the actual value where that will do.
target_of() {
    how=$1 wanted=$3 target=
    # shellcheck disable=SC2086 # split on purpose
    set -- $2
    for number in $wanted; do
        case $how in
            '>=') [ "${1:-0}" -gt "$number" ] && number=$1 ;;
            '<=') [ "${1:-$number}" -lt "$number" ] && number=$1 ;;
        esac
        target="$target${target:+ }$number"
        [ $# -eq 0 ] || shift
    done
    echo "$target"
}
