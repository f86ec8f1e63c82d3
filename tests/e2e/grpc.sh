#!/usr/bin/env bash
# A real gRPC server (grpcio, installed once into the cache) with the services of Triton, TEI and IBM's TGI, plain and with gzip: per-client
# tokens and statuses as the clients were told, and records that say which model.
. "$(dirname "$0")/lib.sh"
suite_needs ss "$PYTHON"

VENV=$CACHE/grpc
if ! "$VENV/bin/python" -c 'import grpc' 2>/dev/null; then
	mkdir -p "$CACHE"
	rm -rf "$VENV"
	if ! { timeout 60 "$PYTHON" -m venv "$VENV" && timeout 240 "$VENV/bin/pip" install -q --disable-pip-version-check 'grpcio<2'; } >"$WORK/pip.log" 2>&1; then
		skip "$SUITE" "grpcio cannot be installed: $(tail -1 "$WORK/pip.log")"
		suite_end
	fi
fi

calls() { # calls NAME [gzip]
	local name=$1 why=
	shift
	case_wanted "$name" || return 0
	port_new
	"$VENV/bin/python" "$E2E/grpc_peer.py" serve "$PORT" >"$WORK/server.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	started "$SERVER_PID" "$WORK/server.log" 20 ready || { fail "$name" "the server did not start: $(tail -1 "$WORK/server.log")"; return; }
	weir_start --port "$PORT" --ring-size 33554432 || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	TOLD=$WORK/told.json
	if ! "$VENV/bin/python" "$E2E/grpc_peer.py" drive "$PORT" "$@" >"$TOLD" 2>"$WORK/drive.err"; then
		fail "$name" "$(drive_errors) $(tail -1 "$WORK/drive.err")"
		weir_stop >/dev/null
	else
		case_compare "$name" --no-records
		[ -n "$why" ] || jq -se '(map(select(.path | endswith("/ModelInfer"))) | length == 176 and all(.kind == "inference")) and
			(map(select(.path | endswith("/ModelInfer")) | select(.status == 200)) | length == 160 and all(.model_name == "llama" and .request_id == "r" and .max_tokens >= 7)) and
			(map(select(.path | endswith("/ModelStreamInfer"))) | length == 9 and all(.stream and .ttft_ms <= .duration_ms)) and
			(map(select(.path == "/tei.v1.Embed/Embed")) | length == 8 and all(.kind == "embedding" and .prompt_tokens == 3)) and
			(map(select(.kind == "control")) | length == 8) and (map(select(.status == 429)) | length == 8)' "$RECORDS" >/dev/null ||
			why="records: $(jq -c '[.path, .kind, .status, .model_name]' "$RECORDS" | sort | uniq -c | tr '\n' ' ')"
		if [ -n "$why" ]; then fail "$name-records" "$why"; else ok "$name-records"; fi
	fi
	server_end
}
calls plain
calls gzip gzip

suite_end
