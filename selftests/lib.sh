# SPDX-License-Identifier: GPL-2.0-only
#
# To be sourced by the test scripts: TAP, devices, and migrations between two
# network namespaces.
set -u

here=$(cd "$(dirname "$0")" && pwd)
bin=$here
[ -x "$bin/vmm" ] || bin=$here/../build/selftests
vmm=$bin/vmm
helper=${VFIO_MULTIFD:-vfio-multifd}
work=$(mktemp -d)
trap 'lib_cleanup' EXIT

tests=0 failures=0

# ok STATUS NAME: one test's result
ok() {
	tests=$((tests + 1))
	if [ "$1" = 0 ]; then
		echo "ok $tests $2"
	else
		echo "not ok $tests $2"
		failures=$((failures + 1))
	fi
}

skip() {
	tests=$((tests + 1))
	echo "ok $tests $1 # SKIP $2"
}

# The whole script makes no sense: $1 says why.
skip_all() {
	echo "1..0 # SKIP $1"
	exit 4
}

finish() {
	echo "1..$tests"
	[ $failures = 0 ]
	exit
}

lib_cleanup() {
	status=$?
	kill $(jobs -p) 2>/dev/null
	wait
	[ -e /run/netns/src ] && netns_remove
	rm -rf "$work"
	exit $status
}

# Most of what an emulated machine does for a script is to start programs: those
# that need no libraries start in half of the time.
quick_tools() {
	busybox=$(command -v busybox) || return
	mkdir "$work/bin"
	for tool in awk cat grep nsenter sed seq sleep sort timeout tr wc; do
		ln -s "$busybox" "$work/bin/$tool"
	done
	PATH=$work/bin:$PATH
}

lib_setup() {
	[ "$(id -u)" = 0 ] || skip_all "needs root"
	quick_tools
	command -v "$helper" >/dev/null || skip_all "$helper is missing"
	modprobe -qa qemu_vfio_pci vfio_multifd ||
		skip_all "the modules qemu_vfio_pci and vfio_multifd are missing"
	[ -e /dev/vfio/vfio ] || skip_all "no /dev/vfio/vfio"
	ip netns list >/dev/null 2>&1 || skip_all "no network namespaces"
	bind_all | sed 's/^/# /'
	. "$here/netns.sh"
	trap 'lib_cleanup' EXIT
}

# All devices that can migrate get their driver.
bind_all() {
	"$vmm" list | grep -E ' (ivshmem|ivshmem-[0-9]+[km]|bochs) ' >"$work/devices"
	while read -r bdf _; do
		"$helper" bind "$bdf" || return
	done <"$work/devices"
}

# device KIND N: address of the Nth such device
device() {
	awk -v kind="$1" -v n="$2" '$2 == kind && n-- == 0 { print $1 }' \
		"$work/devices" | grep .
}

# use KIND N NAME: the VMM's option for a device
use() {
	bdf=$(device "$1" "$2") || return
	printf ' --device=%s,idstr=%s' "$bdf" "$3"
}

# Puts into $src and $dst the options for a pair of each kind in $*; fails if
# there is none.
pairs() {
	src= dst=
	for kind; do
		src=$src$(use "$kind" 0 "$kind") || return
		dst=$dst$(use "$kind" 1 "$kind") || return
	done
}

# wait_for FILE START: until a line of FILE starts so, which is $line then
wait_for() {
	line=$("$bin/await" "$1" "$2")
}

# Reports the VMMs' lines as TAP comments.
show_logs() {
	for side in src dst; do
		echo "# $side ended with $(eval echo \$${side}_status):"
		sed "s/^/#   $side: /" "$work/$side.log"
	done
}

# What destinations agree to: most scripts look at what happens without pre-copy.
dst_features="--features digest,order-free"

# What sources are told beside, of scripts that want that
src_options=

# start_destination [VMM option]... -- [helper option]...: with devices $dst;
# its address is then in $listen_host and $listen_port
start_destination() {
	: >"$work/dst.log"
	"$vmm" destination --netns=dst --helper="$helper" $dst "$@" \
		$dst_features >"$work/dst.log" 2>&1 &
	dst_pid=$!
	wait_for "$work/dst.log" "event listening " || return
	address=${line#event listening }
	listen_host=${address%:*}
	listen_port=${address##*:}
}

start_source() {
	: >"$work/src.log"
	"$vmm" source --netns=src --helper="$helper" $src "$@" \
		>"$work/src.log" 2>&1 &
	src_pid=$!
}

# Waits for both; their statuses are then in $src_status and $dst_status.
wait_both() {
	src_status=0 dst_status=0
	wait $src_pid || src_status=$?
	wait $dst_pid || dst_status=$?
}

# ended "STATUS..." "STATUS...": did source and destination end in one of these?
ended() {
	case " $1 " in *" $src_status "*) ;; *) return 1 ;; esac
	case " $2 " in *" $dst_status "*) ;; *) return 1 ;; esac
}

digests() {
	grep '^digest' "$work/$1.log" | sort
}

# all SIDE REGEX: does the log have such a line for each device of that side?
all() {
	lines=$(grep -c "$2" "$work/$1.log")
	eval "set -- \$$1"
	[ "$lines" = $# ]
}

runs() {
	all "$1" '^state .* RUNNING$'
}

# What the logs say of each side, for judge: how many of its devices run, or were left
# running by the helper, its digests, and how many of these the other side has not
facts='
	{ side = FILENAME == ARGV[1] ? "src" : "dst" }
	/^state .* RUNNING$/ { runs[side]++ }
	/^left .* RUNNING$/ { left[side]++ }
	/the helper died/ { died[side] = 1 }
	/^digest / { digests[side]++; sum[$0] += side == "src" ? 1 : -1 }

	# A helper that lived to say that nothing came of it has cleared up itself.
	function consistent(side, status, n) {
		if (status == 4 || status == 0 && side == "src")
			return !runs[side]
		if (status != 0 && status != 2 && status != 3)
			return 0
		return runs[side] == n && (!status || died[side] || left[side] == n)
	}
	function same(    digest, differ) {
		for (digest in sum)
			differ += sum[digest] != 0
		return !differ
	}'

# judge CONDITION: is it true of these facts?  One program for all of them: to start
# programs is what takes long.
judge() {
	condition=$1
	set -- $src
	n_src=$#
	set -- $dst
	awk -v n_src=$n_src -v n_dst=$# "$facts END { exit !($condition) }" \
		"$work/src.log" "$work/dst.log"
}

# Did all devices get from the source to the destination?
migrated() {
	ended 0 0 && judge '!runs["src"] && runs["dst"] == n_dst && digests["src"] == n_src && same()'
}

# Nothing of a transfer is left: no socket, no reference to the modules.
nothing_left() {
	"$bin/left"
}

# States on both sides are what their exit statuses say, and not both run.
consistent() {
	case $src_status$dst_status in
	20 | 30) return 1 ;;
	esac
	judge "consistent(\"src\", $src_status, n_src) && consistent(\"dst\", $dst_status, n_dst)"
}

healthy_migration() {
	start_destination -- --listen $DST4:0 &&
		start_source --run-ms=10 -- --connect "$DST4:$listen_port" &&
		wait_both && migrated
}

# The kernel's messages on what the devices of $src and $dst do, from now on
watch_states() {
	control=/sys/kernel/debug/dynamic_debug/control
	[ -e $control ] || return
	echo "module qemu_vfio_pci format migration +p" >$control
	echo "vfio-multifd: states since now $$-$((watches += 1))" >/dev/kmsg
}

watches=0

# steps SIDE: each step of a device of that side, as "NEW OLD"
steps() {
	for bdf in $(eval echo "\$$1" | grep -o '[0-9a-f:]*[.][0-7]'); do
		printf '%s ' "$bdf"
	done >"$work/bdfs"
	dmesg | awk -v bdfs="$(cat "$work/bdfs")" -v watch="states since now $$-$watches\$" '
		$0 ~ watch { on = 1 }
		on && match($0, /qemu_vfio_pci [^ ]*: migration state /) {
			bdf = $0
			sub(/.*qemu_vfio_pci /, "", bdf)
			sub(/: .*/, "", bdf)
			sub(/.* state /, "")
			sub(/, was/, "")
			if (index(bdfs, bdf " "))
				print
		}'
}

# passed SIDE OLD P2P NEW: from OLD to NEW all devices of a side went by way of P2P, and
# none went on before all were there
passed() {
	eval "set -- \"\$@\" \$$1"
	steps "$1" | awk -v n=$(($# - 4)) -v from="$2" -v p2p="$3" -v to="$4" '
		$0 == p2p " " from { arrived++ }
		$0 == to " " p2p && arrived == n { gone++ }
		END { exit !n || arrived != n || gone != n }'
}

# time_of MOMENT: when it was at the source, in ns
time_of() {
	sed -n "s/.*\"$1\": \([0-9][0-9]*\).*/\1/p" "$work/src.log" | head -n 1
}

# result STATUS NAME: ok, and if it is not, why
result() {
	[ "$1" = 0 ] || show_logs
	ok "$1" "$2"
}

# value NAME: of the source's report
value() {
	sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p" "$work/src.log" | head -n 1
}

# start_proxy PROXY-OPTION...: before the destination, at the port after $port and $via,
# or else the IPv4 address
start_proxy() {
	port=$((port + 1))
	: >"$work/proxy.log"
	nsenter --net=/run/netns/dst "$bin/proxy" "$@" \
		"${via:-$DST4}" $port "${via:-$DST4}" "$listen_port" \
		>>"$work/proxy.log" 2>&1 &
	proxy_pid=$!
	wait_for "$work/proxy.log" ready
}

# Did the proxy do what it was there for?
stop_proxy() {
	kill $proxy_pid 2>/dev/null
	wait $proxy_pid 2>/dev/null
	grep -q '^harm' "$work/proxy.log"
}

# harmed NAME STATUSES-OF-SOURCE STATUSES-OF-DESTINATION TEXT PROXY-OPTION...: the source
# says TEXT, if that is not empty
harmed() {
	name=$1 src_may=$2 dst_may=$3 text=$4
	shift 4
	start_destination -- --listen $DST4:0 --timeout 5
	start_proxy "$@" &&
		start_source -- --timeout 5 --downtime-limit 0 --connect $DST4:$port $src_options &&
		wait_both
	good=$?
	stop_proxy && [ $good = 0 ] && ended "$src_may" "$dst_may" &&
		consistent && nothing_left && grep -q "$text" "$work/src.log"
	result $? "$name: source ends with $src_status, destination with $dst_status"
}
