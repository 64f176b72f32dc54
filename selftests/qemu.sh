#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Stock QEMUs migrate guests that have our devices: what reads and writes the data
# fds here knows nothing of this project.
#
# qemu.sh [TEST]...: all, or those functions below
#
# Variables:
#	QEMU	which, as stock_qemu.sh names it
#	RUNS	"all", "some" for a slow kernel, "most" beside it, or "few"
. "$(dirname "$0")/lib.sh"
. "$here/qemu_lib.sh"

idstr=0000:00:03.0/vfio

# A guest that writes to its devices all the time; is it there?
start_busy() {
	busy=$1
	shift
	start "$busy" "$@" -kernel "$bin/guest_kernel"
}

is_busy() {
	wait_for "$work/$1.con" "$2"
}

# Address and size of memory and registers of each device that can migrate
bars() {
	qmp "$1" human-monitor-command "command-line=info pci" | sed 's/\\r\\n/\n/g' | awk '
		/PCI device / { ours = /1af4:1110|1234:1111/ }
		ours && /BAR[02]: / { gsub(/[].[]/, ""); print $(NF - 1), $NF }' |
	while read -r first last; do
		echo "$((first)) $((last - first + 1))"
	done
}

# dump SIDE: memory and registers of all devices as its guest sees them
dump() {
	rm -f "$work/$1".[0-9]*
	bars "$1" >"$work/$1.bars" && [ -s "$work/$1.bars" ] || return
	n=0
	while read -r address length; do
		n=$((n + 1))
		qmp "$1" pmemsave "val=$address" "size=$length" "filename=$work/$1.$n" >/dev/null || return
	done <"$work/$1.bars"
}

# same LENGTH: are these BARs the same?
same() {
	dump src && dump dst && cmp -s "$work/src.bars" "$work/dst.bars" || return
	for file in "$work"/src.[0-9]*; do
		[ "$(stat -c %s "$file")" $1 65536 ] || continue
		cmp "$file" "$work/dst.${file##*.}" || return
	done
}

runs_again() {
	for _ in $(seq 100); do
		! qmp "$1" query-status | grep -q '"running": true' || return 0
		sleep 0.1
	done
	echo "# the guest of $1 stands still"
	return 1
}

# Is side $1's guest at work, on its devices, too?
lives() {
	runs_again "$1" && dump "$1" || return
	for file in "$work/$1".[0-9]*; do
		mv "$file" "$work/before.${file##*.}"
	done
	sleep 1
	dump "$1" || return
	for file in "$work/$1".[0-9]*; do
		cmp -s "$file" "$work/before.${file##*.}" || continue
		[ "$(stat -c %s "$file")" -lt 65536 ] ||
			{ echo "# nobody writes to $file"; return 1; }
	done
}

# proxy MODE...: in between
proxy() {
	target=$((port + 1))
	"$bin/qemu_proxy" $target $port "$@" >"$work/proxy.con" 2>>"$work/src.log" &
	proxy_pid=$!
	wait_for "$work/proxy.con" listening
}

listen() {
	qmp dst migrate-incoming "uri=tcp:127.0.0.1:$port" exit-on-error=false >/dev/null
}

go() {
	listen && qmp src migrate "uri=tcp:127.0.0.1:$target" >/dev/null
}

# Some pre-copy first, of RAM and devices
go_slowly() {
	qmp src migrate-set-parameters downtime-limit=1 >/dev/null && go && sleep 0.3 &&
		qmp src migrate-set-parameters downtime-limit=2000000 >/dev/null
}

# finished STATUS: what the source says in the end, and it is that
finished() {
	status src "completed|failed|cancelled" >"$work/result" &&
		grep -q "\"status\": \"\($1\)\"" "$work/result"
}

arrived() {
	finished completed && status dst completed >/dev/null &&
		echo "# downtime $(sed -n 's/.*"downtime": \([0-9]*\).*/\1/p' "$work/result") ms"
}

# The memory that came is the same before the guest goes on, registers are there
# from then on: QEMU leaves RESUMING as late as that.
goes_on() {
	same -ge && qmp dst cont >/dev/null && runs_again dst && same -lt
}

# sources N, destinations N: that many devices
sources() {
	for nth in $(seq 0 2 $((2 * $1 - 1))); do device ivshmem "$nth"; done
}

destinations() {
	for nth in $(seq 1 2 $((2 * $1))); do device ivshmem "$nth"; done
}

# verdict STATUS NAME
verdict() {
	[ "$1" = 0 ] || [ ! -s "$work/result" ] || sed 's/^/# /' "$work/result"
	quit_all
	result "$(($1 | unwell))" "$name: $2"
	unwell=0
	rm -f "$work/result"
}

with_busy_guest() {
	start_busy src "$1" "$(sources $3)" && is_busy src "$3" &&
		start_busy dst "$1" "$(destinations $3)" -incoming defer -S &&
		prepare "$2" return-path switchover-ack && go && arrived && goes_on && is_left dst
}

is_left() {
	quit src
	lives "$1"
}

# Firmware that has not run yet: the devices are what somebody has filled.
with_paused_guest() {
	seed=0
	for bdf in $(sources $3) $(destinations $3); do
		seed=$((seed + 1))
		"$bin/state" fill "$bdf" $seed && "$bin/state" dump "$bdf" "$work/$bdf" || return
	done
	start src "$1" "$(sources $3)" -S && start dst "$1" "$(destinations $3)" -incoming defer -S &&
		prepare "$2" return-path && go && arrived && qmp dst cont >/dev/null && runs_again dst || return
	quit src dst
	nth=0
	for bdf in $(sources $3); do
		other=$(device ivshmem $((nth + 1)))
		nth=$((nth + 2))
		! cmp -s -n $size "$work/$bdf" "$work/$other" &&
			"$bin/state" dump "$other" "$work/$other" &&
			cmp -n $size "$work/$bdf" "$work/$other" || return
	done
	rm -f "$work"/0000:*
}

# QEMU counts a device's thread again once it has started it, and aborts if there
# is none left: where a device has nothing to send its thread may have ended.
raced() {
	grep -q "thread_pool_set_max_threads: Assertion" "$work/src.log" || return
	echo "# QEMU aborted in its thread pool: once more"
	quit_all
	unwell=0
}

# migrates TRANSFER CHANNELS DEVICES GUEST
migrates() {
	for _ in 1 2 3; do
		with_$4_guest "$1" "$2" "$3"
		good=$?
		[ $good != 0 ] && raced || break
	done
	verdict $good "transfer $1, $2 channels, $3 devices, $4 guest"
}

no_multifd() {
	with_busy_guest auto "" 1
	verdict $? "no multifd at all"
}

# The file has RAM at fixed offsets, and devices one after the other.
file() {
	start_busy src auto "$(sources 2)" && is_busy src 2 &&
		start_busy dst auto "$(destinations 2)" -incoming defer -S && prepare 2 mapped-ram &&
		qmp src migrate "uri=file:$work/vm" >/dev/null && finished completed &&
		qmp dst migrate-incoming "uri=file:$work/vm" >/dev/null &&
		status dst completed >/dev/null && goes_on && is_left dst
	verdict $? "a file with mapped-ram"
	rm -f "$work/vm"
}

one_pair() {
	start_busy src "${1:-on}" "$(sources 1)" && is_busy src 1 &&
		start_busy dst "${1:-on}" "$(destinations 1)" -incoming defer -S
}

postcopy() {
	one_pair auto && prepare "" return-path postcopy-ram && go
	qmp src query-migrate >"$work/result"
	grep -qi "vfio.*not.*postcopy" "$work/src.log" "$work/result" && lives src
	verdict $? "postcopy is refused"
}

# RAM that takes its time, and then the user's word
cancelled_early() {
	one_pair && prepare 2 return-path switchover-ack &&
		qmp src migrate-set-parameters max-bandwidth=100000 downtime-limit=1 >/dev/null && go &&
		status src active >/dev/null && qmp src migrate_cancel >/dev/null &&
		finished cancelled && lives src
	verdict $? "cancelled early"
}

# held: device state is on its way, and the source stands still
held() {
	one_pair && prepare 2 return-path switchover-ack && proxy hold && go &&
		wait_for "$work/proxy.con" held &&
		qmp src query-status | grep -q '"running": false'
}

# The destination may wait for ever for what does not come any more.
kill_destination() {
	kill -9 "$dst_pid"
	wait "$dst_pid" 2>/dev/null
	dst_pid=
	true
}

# Whatever QEMU then says of it
cancelled_late() {
	held && qmp src migrate_cancel >/dev/null && finished "cancelled\|failed" && lives src
	good=$?
	kill_destination
	verdict $good "cancelled in stop-copy"
}

killed_late() {
	held && kill_destination && finished failed && lives src
	verdict $? "destination killed in stop-copy"
}

# wrong KIND NTH MESSAGE NAME: this destination is not like the source
wrong() {
	src=$(sources 1)
	watch_states && start_busy src on "$src" && is_busy src 1 &&
		start_busy dst on "$(device "$1" "$2")" -incoming defer -S &&
		prepare 2 return-path switchover-ack && go && finished failed && lives src &&
		status dst failed >>"$work/dst.log" && grep -q "Invalid argument" "$work/dst.log" && dmesg | grep -q "load: .*$3" &&
		! steps src | grep -q STOP_COPY
	verdict $? "$4 is refused before the guest stops"
}

# In turn each QEMU is the source, and then makes room for a new destination.
to_and_fro() {
	here_bdf=$(sources 1) there_bdf=$(destinations 1)
	start_busy src on "$here_bdf" && is_busy src 1 || return
	for nth in $(seq "$1"); do
		start_busy dst on "$there_bdf" -incoming defer -S &&
			prepare 2 return-path switchover-ack && go && arrived && goes_on || return
		quit src
		mv "$work/dst.qmp" "$work/src.qmp"
		src_pid=$dst_pid dst_pid=
		other_bdf=$here_bdf here_bdf=$there_bdf there_bdf=$other_bdf
	done
	lives src
}

there_and_back() {
	times=10
	[ "$RUNS" = all ] || times=3
	to_and_fro $times
	verdict $? "$times migrations to and fro"
}

# Beside those that run always: each kind of transfer, number of channels and of
# devices, and guest with each of the others
all_ways() {
	migrates on 8 1 paused
	migrates auto 1 4 paused
	migrates auto 2 1 busy
	migrates off 1 1 paused
	migrates off 8 1 busy
}

# screen BDF NAME: what the machine's own QEMU would show of this display
screen() {
	bus=$((0x$(echo "$1" | cut -d : -f 2)))
	"$bin/qmp" "$monitor" screendump "device=device$((bus - 1))" \
		"filename=$VM_HOST_OUTPUT/$2.ppm" >/dev/null
}

colours() {
	perl -0777 -ne 's/^P6\n\d+ \d+\n\d+\n//; $seen{$_} = 1 for unpack "(a3)*"; print scalar keys %seen' "$1"
}

show() {
	a=$(device bochs 0) b=$(device bochs 1)
	start_busy src on "$a" && is_busy src 1 &&
		start_busy dst on "$b" -incoming defer -S && prepare 2 return-path switchover-ack &&
		screen "$a" before.src && screen "$b" before.dst && go && arrived && goes_on &&
		screen "$a" src && screen "$b" dst || return
	echo "# $(colours "$VM_OUTPUT/dst.ppm") colours"
	! cmp -s "$VM_OUTPUT/before.src.ppm" "$VM_OUTPUT/before.dst.ppm" &&
		cmp "$VM_OUTPUT/src.ppm" "$VM_OUTPUT/dst.ppm" &&
		[ "$(colours "$VM_OUTPUT/dst.ppm")" -gt 1000 ]
}

display() {
	monitor=/dev/$(basename "$(dirname "$(grep -lx qmp /sys/class/virtio-ports/*/name)")")
	if [ -c "$monitor" ]; then
		show
		verdict $? "the display shows the same"
	else
		skip "$name: the display shows the same" "this machine is not vm.sh's"
	fi
}

# What our tools know of a device, as dump() has it: memory, the first register
# (which vfio.h calls struct vfio_register)
same_memory() {
	dump "$1" && cmp -n $size "$work/$1.2" "$2"
}

same_register() {
	dump "$1" && cmp -n 4 -i 0:$((size + 8)) "$work/$1.1" "$2"
}

# All of a QEMU's channels, RAM included, go to our receiver.
recorded() {
	mkdir -p "$work/channels"
	one_pair && prepare 2 return-path && proxy record "$work/channels" &&
		go_slowly && arrived && goes_on || return
	quit dst
	other=$(device ivshmem 2)
	wc -c "$work"/channels/* | sed 's/^/# /'
	"$bin/state" receive "$other" "$work/other" $idstr "$work/config" "$work/channels/main" \
		"$work"/channels/[0-9] &&
		same_memory src "$work/other" && same_register src "$work/other"
}

# Packets of ours, of another device, take the place of QEMU's.
replaced() {
	other=$(device ivshmem 2)
	"$bin/state" send "$other" 77 "$work/other" $idstr "$work/config" "$work/packets" &&
		one_pair && prepare 2 return-path && proxy replace "$work/packets" && go_slowly && arrived &&
		same_memory dst "$work/other" && qmp dst cont >/dev/null && runs_again dst &&
		same_register dst "$work/other"
}

wire() {
	recorded
	verdict $? "our receiver loads what QEMU's channels carry"
	replaced
	verdict $? "QEMU loads what our sender makes of a device"
}

echo "TAP version 13"
[ -x "$qemu" ] || skip_all "no $name in the cache"
lib_setup
size=$(stat -c %s "/sys/bus/pci/devices/$(device ivshmem 0)/resource2") ||
	skip_all "no pair of ivshmem"
"$qemu" --version | sed -n 's/^/# /;1p'
for test; do
	$test
done
[ $# = 0 ] || finish
RUNS=${RUNS:-all}
case $RUNS in
all | most)
	[ "$RUNS" = most ] || all_ways
	migrates on 1 1 busy
	migrates on 2 4 paused
	migrates auto 8 4 busy
	migrates off 2 4 busy
	no_multifd
	file
	postcopy
	cancelled_early
	cancelled_late
	[ "$RUNS" = most ] || killed_late
	wrong ivshmem-1m 1 "header: size is 0x1000000, must be 0x100000" "another size"
	wrong bochs 1 "header: vendor is 0x1af4, must be 0x1234" "another device"
	there_and_back
	display
	wire
	;;
some)
	migrates on 2 4 busy
	migrates off 2 1 paused
	cancelled_late
	killed_late
	display
	wire
	;;
few)
	migrates on 2 1 busy
	migrates off 2 1 paused
	killed_late
	;;
esac
finish
