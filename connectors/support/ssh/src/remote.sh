# Read by a POSIX shell on the other machine, which then answers requests, one a line, with one line each: the number of the
# request, 0 or 1, and what came of it, or what the system says in hexadecimal digits. Bytes that belong to a request follow
# its line on standard input. Everything is done relative to the working directory, which is pinned: it is entered by path,
# and has to be the directory that was opened then.

LC_ALL=C
export LC_ALL
umask 077
newline='
'
# What is said about a file: see answer.rs.
facts='%f %d %i %h %s %u %g %Y %Z|%y|%z'
at=
problem=
watchdog=

hexadecimal() { od -An -v -tx1 | tr -d ' \n'; }

# answer NUMBER FAILED TEXT
answer() {
    if [ "$2" = 0 ]; then
        printf '%s 0 %s\n' "$1" "$3"
    else
        printf '%s 1 %s\n' "$1" "$(printf %s "$3" | hexadecimal)"
    fi
}

# enter PATH DEVICE:INODE
enter() {
    [ "$at" = "$1 $2" ] && return 0
    at=
    if ! cd -P -- "$1" 2>/dev/null; then
        problem=$(stat -L -- "$1/." 2>&1 >/dev/null) && problem="$1: Permission denied"
        return 1
    fi
    if [ "$(stat -c %d:%i .)" != "$2" ]; then
        problem="$1: Stale file handle"
        return 1
    fi
    at="$1 $2"
}

# do_in NUMBER BYTES PATH DEVICE:INODE FUNCTION ARGUMENTS: in a directory, or without one if PATH is empty. The bytes are taken
# off standard input whatever comes of it.
do_in() {
    number=$1 bytes=$2
    if [ -z "$3" ] || enter "$3" "$4"; then
        shift 4
    else
        shift 4
        set -- refuse
    fi
    if [ "$bytes" = 0 ]; then
        result=$("$@" 2>&1 </dev/null)
    else
        result=$(dd bs="$bytes" count=1 iflag=fullblock 2>/dev/null | "$@" 2>&1)
    fi
    answer "$number" "$?" "$result"
}

# do_between NUMBER PATH DEVICE:INODE PATH DEVICE:INODE FUNCTION ARGUMENTS: from a directory, as $from, to another.
do_between() {
    number=$1
    problem="$2: Permission denied"
    if enter "$2" "$3" && command exec 7<. 2>/dev/null && enter "$4" "$5"; then
        shift 5
        from=/proc/self/fd/7
        result=$("$@" 2>&1 </dev/null)
    else
        result=$(refuse 2>&1)
    fi
    answer "$number" "$?" "$result"
    exec 7<&-
}

refuse() {
    printf '%s\n' "$problem"
    return 1
}

there() { [ -e "$1" ] || [ -L "$1" ]; }

# Names of regular files only, and no links: what else there is would block, or lead elsewhere.
regular() {
    case $(stat -c %f -- "$1" 2>/dev/null) in
        8???) return 0 ;;
        '') stat -c %f -- "$1" >/dev/null ;;
        *) printf '%s\n' "$1: is not a regular file" ;;
    esac
    return 1
}

regular_or_absent() { ! there "$1" || regular "$1"; }

status() { stat -c "$facts" -- "$1"; }

# How a file is, and at most so many bytes of it.
read_file() {
    regular "$1" || return
    exec 8<"$1" || return
    found=$(stat -L -c "$facts" /proc/self/fd/8) || return
    named=$(stat -c %d:%i -- "$1") || return
    opened=$(stat -L -c %d:%i /proc/self/fd/8) || return
    if [ "$named" != "$opened" ]; then
        printf '%s\n' "$1: Stale file handle"
        return 1
    fi
    # Not into a pipe: then nobody would know of an error.
    contents=$(head -c "$2" <&8 | hexadecimal && printf .) || return
    printf '%s|%s' "$found" "${contents%.}"
}

# The names, each followed by a slash, which is in none.
list() {
    ls . >/dev/null || return
    for name in * .*; do
        case $name in . | ..) continue ;; esac
        if there "./$name"; then printf '%s/' "$name"; fi
    done | hexadecimal
}

read_a_link() {
    if [ ! -L "./$1" ]; then
        status "./$1" >/dev/null && printf '%s\n' "$1: Invalid argument"
        return 1
    fi
    readlink -n -- "./$1" | hexadecimal
}

open_child() {
    found=$(stat -c "$facts" -- "./$1") || return
    case $found in
        4???\ *) printf '%s' "$found" ;;
        *) printf '%s\n' "$1: Not a directory"; return 1 ;;
    esac
}

# create NAME OWNER:GROUP MODE BYTES: the bytes are on standard input.
create() {
    # A FIFO would be waited for.
    if there "./$1"; then printf '%s\n' "$1: File exists"; return 1; fi
    (set -C && : >"./$1") || return
    if cat >"./$1" && [ "$(stat -c %s "./$1")" = "$4" ] && settle "$1" "$2" "$3"; then return 0; fi
    rm -f -- "./$1"
    return 1
}

# Owner first, which clears special bits; mode last. A default ACL of the directory gave the file one, which the mode would
# open to others.
settle() {
    if [ "$(stat -c %u:%g -- "./$1")" != "$2" ]; then
        chown -h -- "$2" "./$1" || return
    fi
    if [ -n "$has_acl" ]; then
        said=$(setfacl -b -- "./$1" 2>&1) || case $said in
            *'not supported'*) ;;
            *) printf '%s\n' "$said"; return 1 ;;
        esac
    fi
    chmod -- "$3" "./$1" && status "./$1"
}

set_metadata() { regular "./$1" && settle "$1" "$2" "$3"; }

overwrite() {
    regular "./$1" && cat 1<>"./$1" && truncate -s "$2" -- "./$1"
}

append() {
    regular_or_absent "./$1" && cat >>"./$1" || return
    if [ "$2" = durable ]; then sync -- "./$1"; fi
}

make_link() {
    if there "./$2"; then printf '%s\n' "$2: File exists"; return 1; fi
    ln -s -- "$1" "./$2"
}

hard_link() {
    if there "./$2"; then printf '%s\n' "$2: File exists"; return 1; fi
    ln -- "$from/$1" "./$2"
}

rename() { mv -f -T -- "$from/$1" "./$2"; }

# A second name fails where the new one exists, in one step.
rename_new() { hard_link "$1" "$2" && rm -f -- "$from/$1"; }

# running PROCESS: a zombie does not run. Its name, in parentheses, may hold anything.
running() {
    { read -r line </proc/"$1"/stat; } 2>/dev/null || { printf no; return 0; }
    line=${line##*) }
    case $line in Z* | X* | x*) printf no ;; *) printf yes ;; esac
}

entry() {
    if [ -n "$(command -v getent)" ]; then
        getent "$1" "$2"
    else
        grep "^$2:" "/etc/$1"
    fi | cut -d: -f3
}

# end MARK: ends the process groups of a command that was started with this mark; asks, and then makes sure. Zero bytes between
# arguments are dropped by `read`, and are the end of a line to some versions of grep.
end() {
    groups=
    for file in /proc/[0-9]*/cmdline; do
        words=
        { IFS= read -r words <"$file"; } 2>/dev/null
        case $words in
            *"$1"*)
                { read -r line <"${file%cmdline}stat"; } 2>/dev/null
                line=${line##*) }
                line=${line#* * }
                groups="$groups ${line%% *}"
                ;;
        esac
    done
    for group in $groups; do kill -TERM "-$group" 2>/dev/null; done
    for pause in 0.1 0.2 0.3 0.4 0.5 0.5; do
        alive=
        for group in $groups; do if kill -0 "-$group" 2>/dev/null; then alive=yes; fi; done
        [ -z "$alive" ] && return 0
        sleep "$pause"
    done
    for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
    return 0
}

# locked PAUSES: as often as that, it waits for whoever has it.
locked() {
    pauses=$1
    until flock -n 9; do
        [ "$pauses" -gt 0 ] || return
        pauses=$((pauses - 1))
        sleep 0.2
    done
}

# hold NUMBER PATH DEVICE:INODE NAME OWNER TEXT PAUSES SILENCE: locks a file for as long as this shell lives, and that is until
# nothing was heard for SILENCE seconds. With PAUSES it is to be ours again, after the connection was lost: only if OWNER had it
# last.
hold() {
    if ! enter "$2" "$3"; then
        answer "$1" 1 "$problem"
    elif [ -L "./$4" ]; then
        answer "$1" 1 "$4: is not a regular file"
    elif ! command exec 9<>"./$4" 2>/dev/null; then
        answer "$1" 1 "$4: Permission denied"
    elif ! locked "$7"; then
        answer "$1" 0 "busy $(hexadecimal <"./$4")"
        exec 9>&-
    elif [ "$(stat -c %d:%i "./$4")" != "$(stat -L -c %d:%i /proc/self/fd/9)" ]; then
        answer "$1" 1 "$4: Stale file handle"
        exec 9>&-
    elif read -r owner others <"./$4"; [ "$7" != 0 ] && [ "$owner" != "$5" ]; then
        answer "$1" 0 "taken $(hexadecimal <"./$4")"
        exec 9>&-
    else
        : >"./$4"
        printf '%s %s\n' "$5" "$6" >&9
        silence=$8
        beat
        answer "$1" 0 held
    fi
}

release() {
    exec 9>&-
    rest
    answer "$1" 0 ''
}

# The other side may be gone without a word. While a lock is held, it has to be heard from in time.
beat() {
    rest
    {
        exec 9>&-
        trap 'kill "$nap"; exit' TERM
        sleep "$silence" &
        nap=$!
        wait "$nap"
        kill -s KILL 0
    } </dev/null >/dev/null 2>&1 &
    watchdog=$!
}

rest() {
    if [ -n "$watchdog" ]; then kill "$watchdog" 2>/dev/null; fi
    watchdog=
}

pulse() {
    beat
    answer "$1" 0 ''
}

# What the other side has to know before it asks for anything; and whether everything that is used here is here.
introduce() {
    missing=
    for program in cat chmod chown cut dd flock grep head id ln mkdir mv od readlink rm rmdir sleep stat sync tr truncate; do
        [ -n "$(command -v "$program")" ] || missing="$missing $program"
    done
    mv --help 2>&1 | grep -q -e -T || mv -T 2>&1 | grep -q operand || missing="$missing mv-T"
    has_acl=$(command -v setfacl)
    [ "$(command -v printf)" = printf ] || missing="$missing printf-in-the-shell"
    capabilities=0
    while read -r word value; do
        if [ "$word" = CapEff: ]; then capabilities=$value; fi
    done </proc/self/status
    boot=
    read -r boot </proc/sys/kernel/random/boot_id
    printf 'certdeploy %s|%s|%s|%s|%s|%s|%s|%s|%s\n' \
        "$(uname -s)" "$1" "$missing" "$(id -u)" "$(id -g)" "$(id -G)" "$capabilities" "$boot" "$(date +%s)"
}

trap rest EXIT
introduce "$1" 2>/dev/null
while IFS= read -r request; do
    eval "$request"
done
