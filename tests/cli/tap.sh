# tap.sh: what the scripts beside it share: a scratch folder, running quern, test points in TAP. Sourced; the script sets $quern.
set -u
n=0 failed=0

absolute() {
    case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
    esac
}
scratch() { # enters a folder that goes with the script
    dir=$(mktemp -d) || exit 99
    trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
    cd "$dir" || exit 99
    unset NO_COLOR COLUMNS QUERN_CPU
}
finish() { # the plan, and the script's status
    echo "1..$n"
    exit $failed
}

ok() { # what, then a command that must succeed
    what=$1
    shift
    n=$((n + 1))
    if "$@"; then
        echo "ok $n - $what"
    else
        failed=1
        echo "not ok $n - $what"
        sed 's/^/#   out: /' out | head -5
        sed 's/^/#   err: /' err | head -5
    fi
}

# Runs quern; output in the files out and err, status in $rc.
run() {
    "$quern" "$@" >out 2>err </dev/null
    rc=$?
}
is() { [ "$rc" -eq "$1" ]; }
err_has() { grep -q -e "$1" err; }
out_has() { grep -q -e "$1" out; }
one_error() { [ "$(grep -c '^quern: ' err)" -eq 1 ] && ! grep -qv -e '^quern: ' -e '^hint: ' err; }
fails() { # status, words: a clean failure
    is "$1" && one_error && err_has "$2" && [ ! -s out ]
}
