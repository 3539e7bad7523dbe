# shellcheck shell=bash
# What the benchmark scripts share. Sourced, not run.
bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$bench")
. "$repository/tests/lib/log.sh"
. "$repository/tests/lib/broker.sh"
cache=${MILLSTREAM_BENCH:-$HOME/.cache/millstream/bench}
mkdir -p "$cache"

build_all() {
  command -v go >/dev/null || fail 'kbench needs Go'
  (cd "$bench/kbench" && go build -o "$cache/kbench" .)
  [ -n "${MILLSTREAM_PREBUILT:-}" ] || cargo build --release --quiet --manifest-path "$repository/Cargo.toml" --bin millstream
}

# field NAME: the values of a field in kbench's lines of JSON, one a line.
field() { grep -o "\"$1\":[0-9.e+-]*" | cut -d : -f 2; }
# median: of numbers, one a line; the lower one of the middle two.
median() { sort -g | awk '{v[NR] = $1} END {if (NR) printf "%.4g\n", v[int((NR + 1) / 2)]; else print "-"}'; }
# ratio A B: A / B.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {if (b + 0 == 0) print "-"; else printf "%.2f", a / b}'; }

# Starts the broker in DIR with more arguments; prints the seconds until it says that it is ready, sets BROKER_PID.
timed_start() {
  local dir=$1
  shift
  mkdir -p "$dir"
  rm -f "$dir/fifo"
  mkfifo "$dir/fifo"
  local began line options
  mapfile -t options < <(without_variables)
  began=$EPOCHREALTIME
  env "${options[@]}" "$MILLSTREAM_BIN" start --data "$dir/data" --listen "$BOOTSTRAP" --admin "$ADMIN" "$@" 2>"$dir/fifo" >/dev/null </dev/null &
  BROKER_PID=$!
  disown "$BROKER_PID"
  exec 9<"$dir/fifo"
  while read -r line <&9; do
    [[ $line == *ready*kafka=* ]] && break
  done
  START_SECONDS=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.3f", b - a}')
  # Else the broker would block on a full pipe one day.
  cat <&9 >"$dir/log" &
  disown $!
  kill -0 "$BROKER_PID" 2>/dev/null || fail 'the broker does not start'
}
