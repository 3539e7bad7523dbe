# shellcheck shell=bash
# A broker process for the test scripts. Sourced after log.sh, not run.
#
# With MILLSTREAM_TEST_BOOTSTRAP=host:port the scripts talk to a broker that is already up and kill nothing.
# broker_start DATA [ARGUMENT...]   starts the binary on free ports; sets BOOTSTRAP, ADMIN, BROKER_PID
# broker_restart                    starts it again, same data, addresses and arguments
# broker_kill, broker_stop          SIGKILL; SIGTERM and wait for exit code 0
# BROKER_LISTENER, BROKER_ENVIRONMENT   what its listener begins with (SSL://), and variables of its own (NAME=VALUE ...)

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
MILLSTREAM_BIN=${MILLSTREAM_BIN:-${CARGO_TARGET_DIR:-$repository/target}/release/millstream}
BROKER_PID=
BROKER_LISTENER=
BROKER_ENVIRONMENT=()
NODE_PIDS=()

# A port that nobody listens on, below the range that the kernel gives to clients.
free_port() {
  local port
  while :; do
    port=$((12000 + (RANDOM * 32768 + RANDOM) % 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

external_broker() { [ -n "${MILLSTREAM_TEST_BOOTSTRAP:-}" ]; }

broker_start() {
  broker_launch "$@"
  broker_await "$broker_data" "$BROKER_PID"
}

# nodes_start NODES DIR [ARGUMENT...]   starts nodes that form a cluster, node N's data in DIR/N; sets the arrays
#                                       NODE_BOOTSTRAPS, NODE_ADMINS and NODE_PIDS. One node has no cluster's flags.
nodes_start() {
  local count=$1 dir=$2 node rpc=() flags=()
  shift 2
  NODE_BOOTSTRAPS=() NODE_ADMINS=() NODE_PIDS=()
  for node in $(seq "$count"); do rpc+=("127.0.0.1:$(free_port)"); done
  for node in $(seq "$count"); do
    [ "$count" -eq 1 ] || flags=(--node-id "$node" --rpc "${rpc[node - 1]}" --seeds "$(joined "${rpc[@]}")")
    broker_launch "$dir/$node" "$@" "${flags[@]}"
    NODE_BOOTSTRAPS+=("$BOOTSTRAP")
    NODE_ADMINS+=("$ADMIN")
    NODE_PIDS+=("$BROKER_PID")
  done
  for node in $(seq "$count"); do broker_await "$dir/$node" "${NODE_PIDS[node - 1]}"; done
}

nodes_kill() {
  for BROKER_PID in "${NODE_PIDS[@]}"; do broker_kill; done
}

nodes_stop() {
  kill -TERM "${NODE_PIDS[@]}"
  for BROKER_PID in "${NODE_PIDS[@]}"; do broker_gone; done
}

joined() {
  local IFS=,
  echo "$*"
}

# broker_start in two parts.
broker_launch() {
  broker_data=$1
  shift
  broker_arguments=("$@")
  BOOTSTRAP=127.0.0.1:$(free_port)
  ADMIN=127.0.0.1:$(free_port)
  mkdir -p "$broker_data"
  broker_spawn
}

# The variables of the test scripts are none of the broker's.
without_variables() {
  local variable options=()
  for variable in "${!MILLSTREAM_@}"; do options+=(-u "$variable"); done
  printf '%s\n' "${options[@]}"
}

broker_restart() {
  broker_spawn
  broker_await "$broker_data" "$BROKER_PID"
}

broker_spawn() {
  local options
  mapfile -t options < <(without_variables)
  : >"$broker_data/stderr"
  env "${options[@]}" "${BROKER_ENVIRONMENT[@]}" \
    "$MILLSTREAM_BIN" start --data "$broker_data/data" --listen "$BROKER_LISTENER$BOOTSTRAP" --admin "$ADMIN" "${broker_arguments[@]}" \
    >>"$broker_data/stderr" 2>&1 </dev/null &
  BROKER_PID=$!
  disown "$BROKER_PID"
}

# broker_await DATA PID   until it says that it is ready
broker_await() {
  local waited=0
  until grep -q 'ready.*kafka=' "$1/stderr"; do
    if ! kill -0 "$2" 2>/dev/null || [ "$waited" -ge 1200 ]; then
      tail -n 20 "$1/stderr" >&2
      fail 'the broker does not start'
    fi
    sleep 0.05
    waited=$((waited + 1))
  done
}

broker_gone() {
  while kill -0 "$BROKER_PID" 2>/dev/null; do sleep 0.02; done
  BROKER_PID=
}

broker_kill() {
  [ -n "$BROKER_PID" ] || return 0
  kill -KILL "$BROKER_PID" 2>/dev/null || true
  broker_gone
}

broker_stop() {
  [ -n "$BROKER_PID" ] || return 0
  kill -TERM "$BROKER_PID"
  broker_gone
}
