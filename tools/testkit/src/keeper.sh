# Ends the servers of one folder, and removes it, when no process uses them any more.
#
#   keeper.sh FOLDER                     waits for the end of its standard input: the owner holds the
#                                        other end, so this comes true however the owner ends
#   keeper.sh FOLDER LOCK LINGER STATE   waits until LOCK has been free for LINGER seconds, and
#                                        removes STATE too, if it speaks of FOLDER
#
# FOLDER/pids has a file for each process to end: the signal for it, and its id.
trap '' HUP INT

folder=$1 lock=$2 linger=$3 state=$4

# Another process may have the id by now; the servers' processes work inside the folder.
is_ours() {
    case "$(readlink "/proc/$1/cwd" 2>/dev/null)" in
        "$folder" | "$folder"/*) return 0 ;;
        *) return 1 ;;
    esac
}

# Signals the running processes with $1, or with the signal on file; fails if there are none.
signal_all() {
    found=1
    for file in "$folder"/pids/*; do
        read -r signal pid 2>/dev/null <"$file" || continue
        is_ours "$pid" || continue
        found=0
        kill -s "${1:-$signal}" "$pid" 2>/dev/null
    done
    return "$found"
}

if [ -z "$lock" ]; then
    cat >/dev/null
else
    while :; do
        flock --exclusive "$lock" true
        sleep "$linger"
        exec 9<"$lock"
        # Held until this process ends: a later test waits, and then starts servers of its own.
        flock --exclusive --nonblock 9 && break
        exec 9<&-
    done
fi

# PostgreSQL gets five seconds to end its processes. Signal 0 only checks.
tries=0
signal_all
while signal_all 0; do
    tries=$((tries + 1))
    if [ "$tries" -gt 250 ]; then
        signal_all KILL
        break
    fi
    sleep 0.02
done

# A database's own disk, if it has one, ends with the program; until then it is in the way.
[ ! -d "$folder/small-disk" ] || umount --lazy "$folder/small-disk" 2>/dev/null
rm -rf "$folder"
if [ -n "$state" ] && grep -qF "$folder" "$state" 2>/dev/null; then
    rm -f "$state"
fi
