# Ends the servers of one folder, and removes it, when nobody wants them any more.
#
#   keeper.sh FOLDER                     waits for the end of its standard input: the owner holds the
#                                        other end, so this comes true however the owner ends
#   keeper.sh FOLDER LOCK LINGER STATE   waits until nobody has held LOCK for LINGER seconds, and
#                                        removes STATE too, if it speaks of FOLDER
#
# FOLDER/pids has a file for each process to end: the signal for it, and its id.
trap '' HUP INT

folder=$1 lock=$2 linger=$3 state=$4

# An id may have passed to a stranger since it was written down; ours work inside the folder.
is_ours() {
    case "$(readlink "/proc/$1/cwd" 2>/dev/null)" in
        "$folder" | "$folder"/*) return 0 ;;
        *) return 1 ;;
    esac
}

# Signals what still runs with $1, or with the signal on file, and tells whether there was any.
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
        # Held until this process ends: who comes now waits, and then starts servers of its own.
        flock --exclusive --nonblock 9 && break
        exec 9<&-
    done
fi

# PostgreSQL gets five seconds to end its processes. Signal 0 only asks.
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

rm -rf "$folder"
if [ -n "$state" ] && grep -qF "$folder" "$state" 2>/dev/null; then
    rm -f "$state"
fi
