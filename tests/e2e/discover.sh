#!/bin/bash
# Discovery: real processes in real control groups and namespaces, found, named, followed; double hops; a /proc that is out to harm.
. "$(dirname "$0")/lib.sh"
suite_needs ss curl jq

CGROUP=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
GROUPS_MADE=()
ID1=a1b2c3d4e5f6$(printf '%052d' 1) ID2=f6e5d4c3b2a1$(printf '%052d' 2)

cgroup_new() { # cgroup_new PATH
	local p=$CGROUP made= part
	for part in ${1//\// }; do
		p=$p/$part
		[ -d "$p" ] || { mkdir "$p" || return 1; made="$p $made"; }
	done
	GROUPS_MADE+=($made)
}

cgroups_end() {
	local g i
	for g in $(printf '%s\n' "${GROUPS_MADE[@]}" | sort -r); do
		for ((i = 0; i < 40; i++)); do rmdir "$g" 2>/dev/null && break; [ -d "$g" ] || break; sleep 0.05; done
	done
}
trap 'suite_cleanup; cgroups_end' EXIT

# server_as NAME CGROUP [PORT]: a model server that looks like NAME to ps, in that control group; sets PORT and SERVER_PID.
server_as() {
	local name=$1 group=$2
	if [ -n "${3:-}" ]; then PORT=$3; else port_new; fi
	rm -f "$WORK/server.$PORT.log"
	# shellcheck disable=SC2016
	bash -c '[ -z "$2" ] || echo $$ >"$2/cgroup.procs" || exit 1; exec -a "$1" "$3" --port "$4"' - "$name" "${group:+$CGROUP/$group}" "$MODELSERVER" "$PORT" 2>"$WORK/server.$PORT.log" &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	started "$SERVER_PID" "$WORK/server.$PORT.log" 10 ready
}

servers_end() { # all that runs
	local p
	for p in "${PIDS[@]}"; do end_pid "$p"; done
	PIDS=()
}

ask() { # ask PORT [N]
	local i
	for ((i = 0; i < ${2:-1}; i++)); do
		curl -sf -m 20 "http://127.0.0.1:$1/v1/chat/completions" -H 'content-type: application/json' -d '{"model":"weir-tiny","messages":[{"role":"user","content":"hello"}],"max_tokens":4}' >/dev/null || return 1
	done
}

logged() { grep -qE -- "$1" "$WEIR_LOG"; }
servers_of_records() { jq -r .server "$RECORDS" | sort | uniq -c | tr '\n' ';'; }

# ---- found by name, named by unit and container ------------------------------------------------------
name=named
if case_wanted $name; then
	if [ -z "$CGROUP" ] || ! cgroup_new "weir-test.slice/llm-$$.service" || ! cgroup_new "weir-test.slice/docker-$ID1.scope" || ! cgroup_new "weir-test.slice/docker-$ID2.scope"; then
		skip $name "cannot make control groups"
	else
		why=
		server_as llama-server "weir-test.slice/llm-$$.service" && UNIT_PORT=$PORT || why="the server did not start"
		server_as vllm "weir-test.slice/docker-$ID1.scope" && BOX_PORT=$PORT BOX_PID=$SERVER_PID || why="the server did not start"
		if [ -z "$why" ] && weir_start --auto; then
			logged "watching port $UNIT_PORT \(llama.cpp" && logged "port $BOX_PORT: vllm, pid $BOX_PID, container=${ID1:0:12}" || why="not found: $(cat "$WEIR_LOG")"
			ask "$UNIT_PORT" 3 && ask "$BOX_PORT" 3 || why="$why; no answers"
			# The same workload in a new container, by another process: found again, and counted on, once.
			end_pid "$BOX_PID"
			server_as vllm "weir-test.slice/docker-$ID2.scope" "$BOX_PORT" || why="$why; no second server"
			wait_for 10 logged "port $BOX_PORT: vllm, pid $SERVER_PID, container=${ID2:0:12}" || why="$why; the restart was not seen"
			ask "$BOX_PORT" 2 || why="$why; no answers after the restart"
			settle
			weir_clients >"$WORK/clients.jsonl"
			n=$(jq -s --arg p ":$BOX_PORT" 'map(select(.server | endswith($p))) | map(.requests) | add' "$WORK/clients.jsonl")
			[ "$n" = 5 ] || why="$why; $n of 5 requests counted"
			weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
			for want in "127.0.0.1:$UNIT_PORT .*unit=llm-$$.service\$ 3" "127.0.0.1:$BOX_PORT .*container=${ID1:0:12}\$ 3" "127.0.0.1:$BOX_PORT .*container=${ID2:0:12}\$ 2"; do
				n=$(jq -r .server "$RECORDS" | grep -cE "^${want% *}")
				[ "$n" = "${want##* }" ] || why="$why; '$want' found $n times among $(servers_of_records)"
			done
		else
			why="${why:-weir did not attach: $(tail -3 "$WEIR_LOG")}"
		fi
		servers_end
		if [ -n "$why" ]; then fail $name "$why"; else ok $name; fi
	fi
fi

# ---- the same port in two network namespaces ---------------------------------------------------------
name=namespaces
if case_wanted $name; then
	if [ -z "$CGROUP" ] || ! ip netns add "weir-d$$" 2>/dev/null; then
		skip $name "cannot make a network namespace"
	else
		NETNS+=("weir-d$$")
		why=
		ip netns exec "weir-d$$" ip link set lo up
		cgroup_new "weir-test.slice/here-$$.service" && server_as vllm "weir-test.slice/here-$$.service" || why="no server"
		cgroup_new "weir-test.slice/there-$$.service"
		# shellcheck disable=SC2016
		bash -c 'echo $$ >"$1/cgroup.procs"; exec ip netns exec "$4" bash -c "exec -a vllm \"\$1\" --port \"\$2\"" - "$2" "$3"' - "$CGROUP/weir-test.slice/there-$$.service" "$MODELSERVER" "$PORT" "weir-d$$" 2>"$WORK/there.log" &
		PIDS+=($!)
		started $! "$WORK/there.log" 10 ready || why="no second server"
		if [ -z "$why" ] && weir_start --auto; then
			ask "$PORT" 2
			ip netns exec "weir-d$$" curl -sf -m 20 "http://127.0.0.1:$PORT/v1/completions" -d '{"model":"weir-tiny","prompt":"x","max_tokens":3}' >/dev/null || why="no answer there"
			settle
			weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
			n="$(jq -r .server "$RECORDS" | grep -c "unit=here-$$.service\$") $(jq -r .server "$RECORDS" | grep -c "unit=there-$$.service\$")"
			[ "$n" = "2 1" ] || why="$why; $n: $(servers_of_records)"
		else
			why="${why:-weir did not attach}"
		fi
		servers_end
		if [ -n "$why" ]; then fail $name "$why"; else ok $name; fi
	fi
fi

# ---- nginx in front of a model server: which listener is behind which --------------------------------
name=hops
if case_wanted $name; then
	if ! command -v nginx >/dev/null; then
		skip $name "nginx is not installed"
	else
		why=
		server_as llama-server "" || why="no server"
		BACK=$PORT BACK_PID=$SERVER_PID
		port_new
		cat >"$WORK/nginx.conf" <<CONF
daemon off; worker_processes 2; pid $WORK/nginx.pid; error_log $WORK/nginx.log; user root;
events { worker_connections 64; }
http { access_log off; server { listen 127.0.0.1:$PORT; location / { proxy_pass http://127.0.0.1:$BACK; } } }
CONF
		nginx -c "$WORK/nginx.conf" -e "$WORK/nginx.log" &
		PIDS+=($!)
		wait_for 10 ask "$PORT" || why="$why; nginx does not answer"
		if [ -z "$why" ] && weir_start --port "$PORT" --port "$BACK"; then
			logged "port $PORT: nginx, pid" && logged "port $BACK: llama.cpp, pid $BACK_PID" || why="who listens was not told: $(cat "$WEIR_LOG")"
			ask "$PORT" 5 || why="$why; no answers"
			ask "$BACK" 5 || why="$why; no answers" # a client of its own: no hop
			wait_for 25 logged "port $BACK stands behind port $PORT \(pid " || why="$why; the hop was not seen: $(cat "$WEIR_LOG")"
			! logged "port $PORT stands behind" || why="$why; the outer hop was taken for an inner one"
			weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		else
			why="${why:-weir did not attach}"
		fi
		servers_end
		if [ -n "$why" ]; then fail $name "$why"; else ok $name; fi
	fi
fi

# ---- a storm of restarts: every life of the server is followed, nothing is watched twice -------------
name=restarts
if case_wanted $name; then
	why=
	server_as vllm "" || why="no server"
	if [ -z "$why" ] && weir_start --auto; then
		for ((i = 0; i < 12; i++)); do
			end_pid "$SERVER_PID" -KILL
			server_as vllm "" "$PORT" || { why="no server, round $i"; break; }
			ask "$PORT" 2 || { why="no answer, round $i"; break; }
		done
		wait_for 10 logged "port $PORT: vllm, pid $SERVER_PID" || why="$why; the last one was not found"
		settle
		n=$(weir_clients | jq -s 'map(.requests) | add')
		[ "$n" = 24 ] || why="$why; $n of 24 requests counted"
		[ "$(stat_of ports)" = "$PORT" ] || why="$why; watched: $(stat_of ports)"
		helper=$(pgrep -P "$WEIR_PID" weir-discover)
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		[ -n "$helper" ] && ! kill -0 "$helper" 2>/dev/null || why="$why; the helper '$helper' was left behind"
	else
		why="${why:-weir did not attach}"
	fi
	servers_end
	if [ -n "$why" ]; then fail $name "$why"; else ok $name; fi
fi

# ---- names with newlines, huge command lines, a thousand listeners -----------------------------------
name=hostile
if case_wanted $name; then
	why=
	cat >"$WORK/evil.py" <<'PY'
import ctypes, os, socket, sys, time
ctypes.CDLL(None).prctl(15, b"a\n) S 1 (b\x1b[31m", 0, 0, 0)
keep = []
for i in range(int(sys.argv[-1])):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(1)
    keep.append(s)
print("ready", flush=True)
time.sleep(120)
PY
	# shellcheck disable=SC2016
	bash -c 'ulimit -n 4096; exec -a "$(printf "VLLM::\n\033[2J")" "$1" "$2" 1000' - "$PYTHON" "$WORK/evil.py" >"$WORK/evil.log" 2>&1 &
	PIDS+=($!)
	started $! "$WORK/evil.log" 15 ready || why="no thousand listeners: $(cat "$WORK/evil.log")"
	big=$(head -c 120000 /dev/zero | tr '\0' 'x')
	bash -c 'exec -a vllm "$@"' - "$PYTHON" -c 'import time; time.sleep(120)' "$big" "$big" "$big" &
	PIDS+=($!)
	server_as vllm "" || why="$why; no server"
	if [ -z "$why" ] && weir_start --auto; then
		wait_for 10 logged "watching port $PORT " || why="not found among the others: $(tail -3 "$WEIR_LOG")"
		ask "$PORT" 3 || why="$why; no answers"
		settle
		n=$(weir_clients | jq -s --arg p ":$PORT" 'map(select(.server | endswith($p))) | map(.requests) | add')
		[ "$n" = 3 ] || why="$why; $n of 3 requests counted"
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		! grep -q $'\033' "$WEIR_LOG" || why="$why; an escape sequence came through"
	else
		why="${why:-weir did not attach: $(tail -3 "$WEIR_LOG")}"
	fi
	servers_end
	if [ -n "$why" ]; then fail $name "$why"; else ok $name; fi
fi

# ---- a real container ----------------------------------------------------------------------------------
name=podman
if case_wanted $name; then
	if ! command -v podman >/dev/null; then
		skip $name "podman is not installed"
	else
		why=
		port_new
		run=(podman)
		# crun refuses hosts with both versions of control groups; runc does not.
		[ "$(awk '$3 == "cgroup"' /proc/mounts | wc -l)" -gt 0 ] && command -v runc >/dev/null && run+=(--runtime runc --cgroup-manager cgroupfs)
		# The host's own files are its image: none is fetched.
		"${run[@]}" run --rm --name "weir-llm-$$" --network host --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 -v "$MODELSERVER:/mnt/vllm:ro" --rootfs /:O \
			/mnt/vllm --port "$PORT" >"$WORK/podman.log" 2>&1 &
		PIDS+=($!)
		if ! wait_for 20 ask "$PORT"; then
			skip $name "podman does not run here: $(tail -1 "$WORK/podman.log" | cut -c1-200)"
		elif weir_start --auto; then
			ask "$PORT" 2
			settle
			weir_stop >"$WORK/stop" || why="$(cat "$WORK/stop")"
			[ "$(jq -r .server "$RECORDS" | grep -c "container=weir-llm-$$\$")" = 2 ] || why="$why; $(servers_of_records)$(cat "$WEIR_LOG")"
			if [ -n "$why" ]; then fail $name "$why"; else ok $name; fi
		fi
		"${run[@]}" kill "weir-llm-$$" >/dev/null 2>&1
		servers_end
	fi
fi

suite_end
