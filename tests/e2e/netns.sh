#!/usr/bin/env bash
# Clients in a network namespace of their own, over veth: lost and repeated segments, small segments, IPv6. Counts stay exact.
. "$(dirname "$0")/lib.sh"
suite_needs ss ip tc ethtool curl

NS=weir-e2e-$$
SRV=weir-srv-$$
NETNS=("$NS" "$SRV")
# Both ends in namespaces of ours: nothing of the host's own addressing is touched. The server's namespace is watched, too:
# the hook sits at the root cgroup, and cares for ports in any namespace.
net_up() {
	ip netns add "$NS" && ip netns add "$SRV" &&
		ip -n "$NS" link add veth0 type veth peer name veth0 netns "$SRV" &&
		ip -n "$NS" addr add 198.18.7.2/24 dev veth0 && ip -n "$SRV" addr add 198.18.7.1/24 dev veth0 &&
		ip -n "$NS" addr add fd23:7::2/64 dev veth0 nodad && ip -n "$SRV" addr add fd23:7::1/64 dev veth0 nodad &&
		ip -n "$NS" link set veth0 up && ip -n "$SRV" link set veth0 up && ip -n "$SRV" link set lo up && ip -n "$NS" link set lo up || return 1
	local i
	for i in $(seq 3 25); do
		ip -n "$NS" addr add "198.18.7.$i/24" dev veth0
		ip -n "$NS" addr add "fd23:7:0:$i::2/128" dev veth0 nodad
	done
	ip -n "$SRV" route add fd23:7::/32 dev veth0
	ip -n "$NS" route add fd23:7::/32 dev veth0
}
if ! net_up 2>"$WORK/net.log"; then
	skip "$SUITE" "no network namespace with veth: $(tail -1 "$WORK/net.log")"
	suite_end
fi

# lossy on|off: 5 % both ways, by netem where the kernel has it (then also late and out of order), else by a BPF classifier
lossy() {
	local ns
	for ns in "$NS" "$SRV"; do
		ip netns exec "$ns" tc qdisc del dev veth0 root 2>/dev/null
		ip netns exec "$ns" tc qdisc del dev veth0 clsact 2>/dev/null
		[ "$1" = on ] || continue
		ip netns exec "$ns" tc qdisc add dev veth0 root netem limit 100000 loss 5% delay 1ms reorder 10% 2>/dev/null && continue
		[ -e "$WORK/loss.o" ] || clang -O2 -target bpf -idirafter "/usr/include/$(cc -print-multiarch)" -c "$E2E/loss.bpf.c" -o "$WORK/loss.o" || return 1
		ip netns exec "$ns" tc qdisc add dev veth0 clsact &&
			ip netns exec "$ns" tc filter add dev veth0 egress bpf direct-action obj "$WORK/loss.o" sec tc || return 1
	done
}

offload() { # offload on|off
	local ns
	for ns in "$NS" "$SRV"; do ip netns exec "$ns" ethtool -K veth0 tso "$1" gso "$1" gro "$1" >/dev/null 2>&1 || return 1; done
}

over() { # over NAME TARGET "SERVER OPTIONS" [COMPARE OPTIONS...] <PLAN
	local name=$1 target=$2 server=$3 plan
	shift 3
	plan=$(cat)
	case_wanted "$name" || return 0
	# shellcheck disable=SC2086
	IN=$SRV modelserver_start $server || { fail "$name" "the model server did not start: $(cat "$WORK/modelserver.log")"; return; }
	if ! weir_start --port "$PORT" ${WEIR_OPTIONS:-}; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	elif ! IN_CLIENT=$NS DRIVE_TIMEOUT=120 drive "$target:$PORT" <<<"$plan"; then
		fail "$name" "$(drive_errors)"
		weir_stop >/dev/null
	else
		SETTLE=1 case_compare "$name" "$@"
	fi
	server_end
}

MIX='"requests": [{"tokens": 12}, {"stream": true, "usage": true, "tokens": 300}, {"tokens": 5, "prompt_bytes": 50000}, {"api": "embedding"},
  {"stream": true, "usage": true, "tokens": 57, "prompt_bytes": 50000}, {"body": "{", "expect": 400}, {"stream": true, "tokens": 40}]'

over plain 198.18.7.1 "--bind 198.18.7.1" --truth <<<'{"clients": [{"src": "198.18.7.3", "count": 20, '"$MIX"'}]}'

if lossy on; then
	over loss 198.18.7.1 "--bind 198.18.7.1" --truth <<<'{"clients": [{"src": "198.18.7.3", "count": 20, '"$MIX"'}]}'
	over loss-one 198.18.7.1 "--bind 198.18.7.1 --coalesce 16" --truth <<<'{"clients": [{"src": "198.18.7.3", "requests": [{"stream": true, "usage": true, "tokens": 20000}, {"tokens": 3, "prompt_bytes": 50000, "repeat": 5}]}]}'
	over loss-close 198.18.7.1 "--bind 198.18.7.1" --truth <<<'{"clients": [{"src": "198.18.7.3", "count": 5, "keepalive": false, "loops": 4, "requests": [{"tokens": 12}, {"stream": true, "usage": true, "tokens": 33}]}]}'
else
	skip loss "neither netem nor a BPF classifier here"
fi
lossy off

if offload off; then
	over mss88 198.18.7.1 "--bind 198.18.7.1" --truth <<<'{"clients": [{"src": "198.18.7.3", "count": 10, "mss": 88, '"$MIX"'}]}'
	lossy on && over mss88-loss 198.18.7.1 "--bind 198.18.7.1" --truth <<<'{"clients": [{"src": "198.18.7.3", "count": 4, "mss": 88, '"$MIX"'}]}'
	lossy off
	offload on
else
	skip mss88 "ethtool cannot switch the offloads here"
fi

# Counted by /64: every client of ours has its own.
over ipv6 '[fd23:7::1]' "--bind fd23:7::1" --v6-prefix 64 --truth <<<'{"clients": [{"src": "fd23:7::2", '"$MIX"'}, {"src": "fd23:7:0:3::2", '"$MIX"'}, {"src": "fd23:7:0:4::2", '"$MIX"'}]}'
WEIR_OPTIONS="--v6-prefix 128" over ipv6-whole '[fd23:7::1]' "--bind fd23:7::1" --truth <<<'{"clients": [{"src": "fd23:7::2", '"$MIX"'}, {"src": "fd23:7:0:3::2", '"$MIX"'}]}'
lossy on && over ipv6-loss '[fd23:7::1]' "--bind fd23:7::1" --v6-prefix 64 --truth <<<'{"clients": [{"src": "fd23:7::2", '"$MIX"'}, {"src": "fd23:7:0:3::2", '"$MIX"'}]}'
lossy off

suite_end
