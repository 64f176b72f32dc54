#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# What is seen of a transfer from outside: the helper's commands status and monitor,
# and the description of the netlink family, which a tool of the kernel reads.
. "$(dirname "$0")/lib.sh"

cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfio-multifd}
source=${KSELFTEST_DIR:-$cache/6.12/source/tools/testing/selftests}/../../..
ynl=$source/tools/net/ynl/cli.py

# json EXPRESSION: is it true of the JSON that comes in, which is called x?
json() {
	python3 -c "import json, sys
x = json.load(sys.stdin)
sys.exit(0 if $1 else 1)"
}

src_status=- dst_status=-

nobody_there() {
	: >"$work/src.log" >"$work/dst.log"
	[ ! "$(on_src "$helper" status)" ]
	result $? "no transfer"
	on_src "$helper" status --json | json "x == []"
	result $? "no transfer, as JSON"
	setpriv --bounding-set=-net_admin nsenter --net=/run/netns/src "$helper" status \
		>"$work/out" 2>&1
	[ $? = 1 ] && grep -q CAP_NET_ADMIN "$work/out"
	result $? "without CAP_NET_ADMIN"
	rmmod vfio_multifd
	on_src "$helper" status >"$work/out" 2>&1
	[ $? = 1 ] && grep -q "module vfio_multifd" "$work/out"
	result $? "without the module"
	modprobe vfio_multifd
	"$helper" status --json >"$work/out" 2>&1 now
	[ $? = 1 ] && grep -q 'what is "now"' "$work/out"
	result $? "a word too many"
}

watched() {
	for side in src dst; do
		nsenter --net=/run/netns/$side "$helper" monitor --json \
			>"$work/$side.events" 2>"$work/$side.watch" &
		eval "${side}_watch=\$!"
		wait_for "$work/$side.watch" "vfio-multifd: watching"
	done
	start_destination -- --listen $DST4:0 &&
		start_source --run-ms=3000 -- --channels 3 --connect "$DST4:$listen_port" &&
		wait_for "$work/src.log" "event may-stop"
	result $? "a transfer that waits for its trigger"
	# for as long as it is looked at
	vmm_pid=$(cut -d ' ' -f 4 "/proc/$(sed -n 's/^helper //p' "$work/src.log")/stat")
	kill -STOP "$vmm_pid"
	on_src "$helper" status >"$work/out"
	[ "$(grep -c '^transfer .* send *ready ' "$work/out")" = 1 ] &&
		[ "$(grep -c '^  channel ' "$work/out")" = 3 ] &&
		! grep -q '^  device' "$work/out"
	result $? "the source's status"
	on_dst "$helper" status --json >"$work/out"
	json 'len(x) == 1 and x[0]["role"] == "recv" and x[0]["state"] == "sealed" and
[d["idstr"] for d in x[0]["devices"]] == ["ivshmem-1m", "bochs"] and
[c["id"] for c in x[0]["channels"]] == [0, 1, 2] and
x[0]["features"] == ["digest", "order-free"] and
all(c["network_ns"] > 0 for c in x[0]["channels"])' <"$work/out"
	good=$?
	[ $good = 0 ] || sed 's/^/# /' "$work/out"
	result $good "the destination's status, as JSON"
	[ "$("$helper" status --json)" = "[]" ]
	result $? "another namespace sees nothing"
	described
	kill -CONT "$vmm_pid"
	wait_both
	migrated
	result $? "it goes on"
	kill $src_watch
	wait $src_watch
	result $? "SIGTERM ends the monitor"
	kill -INT $dst_watch
	wait $dst_watch
	[ "$(grep -o '"state": "[a-z]*"' "$work/src.events" | tr -dc 'a-z\n' | sed s/^state//)" = \
		"sealed
done" ] && json 'x["bytes"] > 1 << 20 and x["packets"] > 2' <<-END
		$(tail -n 1 "$work/src.events")
	END
	good=$?
	[ $good = 0 ] || sed 's/^/# /' "$work/src.events"
	result $good "what the monitor saw"
}

described() {
	[ -e "$ynl" ] || { skip "the family's description" "no $ynl"; return; }
	on_dst python3 "$ynl" --spec "$spec" --schema "$source/Documentation/netlink/genetlink.yaml" \
		--dump get --output-json >"$work/out" 2>"$work/err"
	json '[m["idstr"] for m in x if "idstr" in m] == ["ivshmem-1m", "bochs"] and
[m["role"] for m in x if "uuid" in m] == ["recv"]' <"$work/out"
	good=$?
	[ $good = 0 ] || sed 's/^/# /' "$work/out" "$work/err"
	result $good "the family's description fits what it says"
}

failed() {
	nsenter --net=/run/netns/src "$helper" monitor >"$work/src.events" 2>"$work/src.watch" &
	src_watch=$!
	wait_for "$work/src.watch" "vfio-multifd: watching"
	start_destination -- --listen $DST4:0 &&
		start_source --run-ms=5000 -- --connect "$DST4:$listen_port" &&
		wait_for "$work/src.log" "event may-stop" && wait_for "$work/src.log" "helper " &&
		kill -TERM "${line#helper }" && wait_both && ended 2 2 &&
		grep -q '^transfer .* send *failed .* Operation canceled (reason 1)' "$work/src.events"
	result $? "a transfer that is cancelled"
	kill $src_watch
	wait $src_watch
}

# stalled NAME COMMAND: nobody reads what the monitor says, which is something or nothing
stalled() {
	rm -f "$work/watch"
	on_src python3 - "$helper" "$work/watch" 2>"$work/watching" <<-'END' &
		import fcntl, os, subprocess, sys
		read, write = os.pipe()
		os.write(write, b" " * fcntl.fcntl(write, fcntl.F_GETPIPE_SZ))
		watch = subprocess.Popen([sys.argv[1], "monitor"], stdout=write)
		print(watch.pid, file=open(sys.argv[2], "w"), flush=True)
		sys.exit(watch.wait(60))
	END
	stalled_pid=$!
	wait_for "$work/watching" "vfio-multifd: watching" && $2 &&
		kill "$(cat "$work/watch")" && wait $stalled_pid
	result $? "SIGTERM ends a monitor that nobody reads, $1"
}

echo "TAP version 13"
lib_setup
pairs ivshmem-1m bochs || skip_all "no pairs of ivshmem-1m and bochs"
spec=$here/vfio-multifd.yaml
[ -e "$spec" ] || spec=$here/../Documentation/netlink/vfio-multifd.yaml
nobody_there
watched
failed
stalled "of a transfer" healthy_migration
stalled "of nothing" true
nothing_left
result $? "nothing is left"
finish
