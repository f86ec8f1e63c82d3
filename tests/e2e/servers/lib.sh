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
	until curl -sf -m 5 -o /dev/null "$3"; do
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
