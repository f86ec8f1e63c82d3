# servers/lib.sh - real servers that are installed into the cache; sourced after lib.sh.

# server_install NAME SECONDS: runs servers/NAME.sh unless done before; says SKIP and why where it cannot. Its log outlives the suite,
# and two suites that start together do not install twice.
server_install() {
	local name=$1 dir=$CACHE/$1 log=$CACHE/$1.log
	mkdir -p "$CACHE"
	if ! (
		flock -w "$2" 9 || { echo "another installation did not end"; exit 1; }
		PYTHON=$PYTHON timeout -k 10 "$2" "$E2E/servers/$name.sh" "$dir" </dev/null
	) 9>"$dir.lock" >"$log" 2>&1; then
		skip "$name" "cannot be installed within $2 s: $(tail -1 "$log")"
		return 1
	fi
}

# server_asked NAME SECONDS: for servers too big to come unasked. WEIR_TEST_SERVERS=1 uses one that is installed, =install
# (make test-servers) installs it. Says SKIP and why otherwise.
server_asked() {
	case ${WEIR_TEST_SERVERS:-} in
	install) server_install "$1" "$2" ;;
	'') skip "$1" "a big server, opt-in: make test-servers"; return 1 ;;
	*)
		[ -e "$CACHE/$1/complete" ] && return 0
		skip "$1" "not in $CACHE/$1: make test-servers installs it"
		return 1
		;;
	esac
}

# server_up PID SECONDS URL: until it answers; fails when the process ends before.
server_up() {
	local end=$((SECONDS + $2 + 1))
	until curl -skf -m 5 -o /dev/null "$3"; do
		kill -0 "$1" 2>/dev/null || return 1
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

# estimates NAME "PLAN OPTIONS" ["REPORT OPTIONS"]: streams with and without usage against the server at PORT; prints the errors.
estimates() {
	local name=$1 out why=
	case_wanted "$name" || return 0
	if ! weir_start --port "$PORT"; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
		return
	fi
	# shellcheck disable=SC2086
	DRIVE_TIMEOUT=${DRIVE_TIMEOUT:-240} drive "127.0.0.1:$PORT" < <("$PYTHON" "$E2E/estimate.py" plan $2) || why=$(drive_errors)
	settle
	weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	# shellcheck disable=SC2086
	out=$("$PYTHON" "$E2E/estimate.py" report $3 "$name" "$LOG" "$RECORDS" 2>"$WORK/estimates.err") || why="$why; $(cat "$WORK/estimates.err")"
	[ -z "$out" ] || printf '%s\n' "$out"
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
}

# ended_early CASE: a case of aborts in which every answer ended before its client hung up has tested nothing.
ended_early() {
	! case_wanted "$1" || [ "$(jq .total.aborted "$TOLD")" -gt 0 ] || fail "$1-aborted" "every answer was over before its client hung up"
}

# ---- what an SRE asks of weir on a real server -------------------------------------------------------------------------------------
# Other servers of this host may be found, too, and other tests may run: only records of the port in question are looked at.

# records_of PORT: its records, into $WORK/of.jsonl.
records_of() { jq -c --arg p ":$1" 'select(.server // "" | split(" ")[0] | endswith($p))' "$RECORDS" >"$WORK/of.jsonl"; }

# named NAME SOFTWARE MODEL KEY KEY -- WEIR OPTION...: two users with a key each ask the server at PORT (or VIA=PORT, a gateway before it; TLS=true);
# each record names the server, its software, the model, the client's address, key (hashed) and user, what was told of tokens, and times.
# SAYS is a line of weir's log that must be there.
named() {
	local name=$1 software=$2 model=$3 one=$4 two=$5 why= out
	shift 6
	case_wanted "$name" || return 0
	if ! weir_start "$@"; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
		return
	fi
	drive "127.0.0.1:${VIA:-$PORT}" <<-PLAN || why=$(drive_errors)
		{"model": "$model", "tls": ${TLS:-false}, "clients": [
		  {"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
		    {"tokens": 9, "natural": true, "headers": {"authorization": "Bearer $one"}, "extra": {"user": "maria"}, "repeat": 2},
		    {"stream": true, "usage": true, "tokens": 30, "natural": true, "headers": {"authorization": "Bearer $one"}, "extra": {"user": "maria"}, "repeat": 2}]},
		  {"src": "127.0.0.31", "hangs_up": true, "requests": [
		    {"tokens": 9, "natural": true, "headers": {"authorization": "Bearer $two"}, "extra": {"user": "otto"}},
		    {"stream": true, "usage": true, "tokens": 30, "natural": true, "headers": {"authorization": "Bearer $two"}, "extra": {"user": "otto"}, "repeat": 2}]}]}
	PLAN
	settle
	[ -z "${SAYS:-}" ] || grep -qE -- "$SAYS" "$WEIR_LOG" || why="$why; the log does not say '$SAYS': $(cat "$WEIR_LOG")"
	weir_clients >"$WORK/clients.jsonl"
	"$WEIR" clients --by key --json --socket "$WORK/sock" >"$WORK/by-key.jsonl" || why="$why; clients --by key"
	weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	records_of "$PORT"
	[ -n "${VIA:-}" ] || out=$("$PYTHON" "$E2E/compare.py" --port "$PORT" --ignore 127.0.0.1 "$TOLD" "$WORK/clients.jsonl" 2>&1) || why="$why; counters: $out"
	out=$("$PYTHON" "$E2E/compare.py" --records --ends --ignore 127.0.0.1 "$LOG" "$WORK/of.jsonl" 2>/dev/null) || why="$why; records: $out"
	jq -se --arg model "$model" --arg software "$software" 'map(select(.kind == "inference" and .client_ip != "127.0.0.1")) | length == 15
		and all(.model_name == $model and (.api_key | test("^[0-9a-f]{16}$")) and .prompt_tokens > 0 and .completion_tokens > 0 and .duration_ms > 0 and (has("estimated") | not))
		and (map([.user, .api_key]) | unique | length) == 2
		and (map([.user, .client_ip]) | unique) == [["maria", "127.0.0.11"], ["maria", "127.0.0.12"], ["maria", "127.0.0.13"], ["otto", "127.0.0.31"]]
		and (sort_by(.timestamp) | last | .server | test("^127.0.0.1:[0-9]+ " + $software + "( [a-z]+=[^ ]+)?$"))' "$WORK/of.jsonl" >/dev/null ||
		why="$why; $(jq -c '[.server, .model_name, .client_ip, .api_key, .user, .prompt_tokens, .completion_tokens, .ttft_ms]' "$WORK/of.jsonl" | sort -u | head -20)"
	# the accounts of the two keys are what those clients were told
	out=$(jq -r --slurpfile k <(jq -c --arg p ":$PORT" 'select(.api_key and (.server | split(" ")[0] | endswith($p)))' "$WORK/by-key.jsonl") '
		def sums(x): [(x | map(.requests) | add), (x | map(.prompt_tokens) | add), (x | map(.completion_tokens) | add)];
		if ($k | length) == 2 and sums($k) == sums([.total]) then "same" else "accounts of keys \($k | map([.api_key, .requests])), told \(sums([.total]))" end' "$TOLD" 2>&1)
	[ "$out" = same ] || why="$why; $out"
	! grep -rqF -e "$one" -e "$two" "$RECORDS" "$WEIR_LOG" "$WEIR_OUT" || why="$why; a key was written down"
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
}

# behind_nginx NAME SOFTWARE MODEL KEY KEY: the same through nginx, which is trusted and says who the client is.
behind_nginx() {
	local name=$1 gateway
	case_wanted "$name" || return 0
	# shellcheck disable=SC2016
	if ! gateway_start "$PORT" 'proxy_bind 127.0.0.9; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;'; then
		fail "$name" "nginx did not start: $(tail -1 "$WORK/nginx.log")"
		return
	fi
	VIA=$GATEWAY named "$@" -- --port "$PORT" --trusted-proxy 127.0.0.9
	end_pid "$GATEWAY_PID"
}

# restarted NAME LABEL COMMAND... <PLAN: the server at PORT (SERVER_PID) is killed (or ended with HOW=-TERM) while weir watches, and started again by the command: it is told
# who listens now, and each request of both lives is there.
restarted() {
	local name=$1 label=$2 plan why= out
	plan=$(cat)
	shift 2
	case_wanted "$name" || return 0
	if ! weir_start --port "$PORT"; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
		return
	fi
	drive "127.0.0.1:$PORT" <<<"$plan" || why=$(drive_errors)
	cp "$TOLD" "$WORK/told.1" && cp "$LOG" "$WORK/log.1"
	end_pid "$SERVER_PID" "${HOW:--KILL}"
	SAME_PORT=$PORT "$@" || why="$why; the server did not start again"
	wait_for 15 grep -qE "port $PORT: $label, pid $SERVER_PID" "$WEIR_LOG" || why="$why; not told of: $(cat "$WEIR_LOG")"
	sleep 4 # TLS: two looks of the helper
	drive "127.0.0.1:$PORT" <<<"$plan" || why="$why; $(drive_errors)"
	settle
	weir_clients >"$WORK/clients.jsonl"
	weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	jq -s '{clients: (map(.clients) | add)}' "$WORK/told.1" "$TOLD" >"$WORK/told.both"
	cat "$WORK/log.1" "$LOG" >"$WORK/log.both"
	out=$("$PYTHON" "$E2E/compare.py" --ignore 127.0.0.1 "$WORK/told.both" "$WORK/clients.jsonl" 2>&1) || why="$why; counters: $out"
	out=$("$PYTHON" "$E2E/compare.py" --records --ignore 127.0.0.1 "$WORK/log.both" "$RECORDS" 2>/dev/null) || why="$why; records: $out"
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
}

# double_hop NAME OUTER INNER <PLAN: clients ask at port OUTER, whose server asks at INNER; both are watched. The outer one alone has records,
# and the inner one's times are known.
double_hop() {
	local name=$1 outer=$2 inner=$3 plan why= out
	plan=$(cat)
	case_wanted "$name" || return 0
	if ! weir_start --port "$outer" --port "$inner"; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
		return
	fi
	drive "127.0.0.1:$outer" <<<"$plan" || why=$(drive_errors)
	settle
	stat_of inner | tr "'" '"' >"$WORK/inner"
	weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	out=$("$PYTHON" "$E2E/compare.py" --records --ends "$LOG" "$RECORDS" 2>/dev/null) || why="$why; records: $out"
	out=$(jq -r --argjson outer "$outer" --argjson inner "$inner" --slurpfile told "$TOLD" '$told[0].total as $t | .links as $l |
		if ($l | length) == 1 and $l[0].outer_port == $outer and $l[0].port == $inner and $l[0].engine_duration_ms.count == $t.status_2xx
			and $l[0].gateway_queue_ms.count == $t.status_2xx and $l[0].gateway_queue_ms.p50 >= 0 and .lost == 0
			and .prompt_tokens == $t.prompt_tokens and .completion_tokens == $t.completion_tokens then "same"
		else "inner hops \(.), told \($t)" end' "$WORK/inner" 2>&1)
	[ "$out" = same ] || why="$why; $out"
	grep -q "port $inner stands behind port $outer\|inner hops: " "$WEIR_LOG" || why="$why; the log does not tell of it"
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
}

# certificate_make: sets TLS_KEY and TLS_CERT.
certificate_make() {
	TLS_KEY=$WORK/key.pem TLS_CERT=$WORK/cert.pem
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$TLS_KEY" -out "$TLS_CERT" -days 30 -subj /CN=localhost 2>"$WORK/openssl.log"
}
