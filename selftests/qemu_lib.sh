# SPDX-License-Identifier: GPL-2.0-only
#
# To be sourced after lib.sh: stock QEMUs with our devices, and what they are told
# by QMP.  Each is one of two sides, "src" and "dst".
#
# Variables:
#	QEMU	which, as stock_qemu.sh names it

name=${QEMU:-qemu-10.0}
qemu=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfio-multifd}/$name/qemu
uuid=00010203-0405-0607-0809-0a0b0c0d0e0f
guest_memory=32	# MiB
src_prefix= dst_prefix=	# of their commands
port=4400
src_pid= dst_pid= proxy_pid= qmps=0 unwell=0
src_status=- dst_status=-

# qmp SIDE COMMAND [NAME=VALUE]...
qmp() {
	qmp_side=$1
	shift
	"$bin/qmp" "$work/$qmp_side.qmp" "$@" 2>>"$work/$qmp_side.log"
}

# status SIDE STATUS[|STATUS]...: waits for one of these; prints all that is known
status() {
	for _ in $(seq 600); do
		known=$(qmp "$1" query-migrate) || return
		now=${known##*\"status\": \"}
		case "|$2|" in
		*"|${now%%\"*}|"*) echo "$known"; return ;;
		esac
		sleep 0.2
	done
	echo "# status ${now%%\"*} of $1, not $2" >&2
	return 1
}

capabilities() {
	list=
	for capability in $2; do
		list="$list,{\"capability\":\"$capability\",\"state\":true}"
	done
	qmp "$1" migrate-set-capabilities "capabilities=[${list#,}]" >/dev/null
}

# start SIDE TRANSFER DEVICES OPTION...: a QEMU with these devices, by BDF;
# TRANSFER is what the devices are told of multifd
start() {
	side=$1 transfer=$2 devices=$3 slot=2 iommu=
	shift 3
	if [ -e /dev/iommu ]; then
		iommu=,iommufd=iommufd0
		set -- "$@" -object iommufd,id=iommufd0
	fi
	for bdf in $devices; do
		slot=$((slot + 1))
		set -- "$@" -device "vfio-pci,host=$bdf,addr=$slot,enable-migration=on,x-migration-multifd-transfer=$transfer$iommu"
	done
	qmps=$((qmps + 1))
	ln -sf "qmp.$qmps" "$work/$side.qmp"
	rm -f "$work/$side.con"
	eval "prefix=\$${side}_prefix"
	$prefix "$qemu" -M q35 -accel tcg -m $guest_memory -nodefaults -display none -uuid $uuid \
		-debugcon "file:$work/$side.con" -qmp "unix:$work/qmp.$qmps,server=on,wait=off" \
		"$@" >"$work/$side.log" 2>&1 &
	eval "${side}_pid=\$!"
	for _ in $(seq 300); do
		[ ! -S "$work/$side.qmp" ] || return 0
		sleep 0.1
	done
	return 1
}

# quit SIDE...
quit() {
	for side; do
		eval "pid=\$${side}_pid"
		[ "$pid" ] || continue
		qmp "$side" quit >/dev/null
		for _ in $(seq 100); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		kill -9 "$pid" 2>/dev/null && echo "# the QEMU of $side did not quit"
		ended=0
		wait "$pid" || ended=$?
		[ $ended = 0 ] || unwell=1
		eval "${side}_status=$ended ${side}_pid="
	done
}

quit_all() {
	[ ! "$proxy_pid" ] || kill "$proxy_pid"
	proxy_pid=
	quit src dst
	rm -f "$work"/*.[0-9]*
}

# prepare CHANNELS CAPABILITY...: both sides; without channels there is no multifd
prepare() {
	wanted=$1
	shift
	set -- "$*${wanted:+ multifd}" ${wanted:+"multifd-channels=$wanted"}
	for prepared in dst src; do
		capabilities $prepared "events $1" &&
			qmp $prepared migrate-set-parameters max-bandwidth=0 downtime-limit=2000000 \
				avail-switchover-bandwidth=10000000000 ${2:-} >/dev/null || return
	done
	port=$((port + 2))
	target=$port
}
