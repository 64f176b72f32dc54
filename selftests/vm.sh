#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Run a command, or a shell, as root in a virtual machine that has pairs of PCI
# devices behind an IOMMU.  Needs QEMU 7.2 or later, no KVM and no root.
#
# The machine boots a kernel that kernel.sh fetched and sees the host's file
# system read-only: what it writes stays in its memory, except below
# $VM_OUTPUT, which is the directory given by -o, on the host $VM_HOST_OUTPUT.
# The virtio port called "qmp" leads to the machine's own QEMU, where the first
# device of the first pair is "device0", the other one "device1", and so on.
set -eu

usage() {
	cat <<-'END'
	usage: vm.sh [-i] [-k kernel] [-a arguments] [-p pairs] [-d size]... [-m memory]
	             [-t seconds] [-o directory] [--] [command [argument]...]

	 -i  one CPU, whose clock counts a nanosecond for each instruction, and
	     while it waits for a timer

	 -k  kernel's name, default 6.12
	 -a  arguments for the kernel, beside its own
	 -p  pairs of devices, default 4K,1M,256M,bochs; each is [COUNTx]TYPE where
	     TYPE is a size (an ivshmem-plain of that size), bochs (a bochs-display
	     of 4 MiB) or the name of a QEMU device (an ivshmem-doorbell gets
	     its server).  They are on bus 1, 2, 3... in
	     this order; the two of a pair are neighbours
	 -d  add an empty virtio disk of that size, with sectors of 4096 bytes and a
	     write cache.  Up to five; they are vda, vdb... in this order when
	     virtio_blk is loaded, and go with the machine
	 -m  memory, default 2G
	 -t  the machine is killed after so many seconds, default 900
	 -o  keep the kernel's log, and what the command writes to $VM_OUTPUT, here

	Without a command: a shell on this terminal.  Exits with the command's
	status (1 in place of 124 to 126), 124 after a timeout, 125 if the machine
	or its kernel failed, 126 if QEMU crashed, got stuck or ran what is no
	code any more, which says nothing of the kernel or the command.
	END
}

die() {
	echo "vm.sh: $*" >&2
	exit 125
}

quote() {
	for arg; do
		printf "'%s' " "$(printf '%s' "$arg" | sed "s/'/'\\\\''/g")"
	done
}

# Appends the pairs given by $1 to $devices.
add_pairs() {
	port=0
	for item in $(echo "$1" | tr , ' '); do
		case $item in
		[0-9]*x*) count=${item%%x*} type=${item#*x} ;;
		*) count=1 type=$item ;;
		esac
		end=$((port + 2 * count))
		while [ $port -lt $end ]; do
			add_device "$type"
			port=$((port + 1))
		done
	done
}

# Function 0 of each slot must be there, so slots are filled from function 0.
add_device() {
	addr=$(printf '%x.%x' $((2 + port / 8)) $((port % 8)))
	devices="$devices -device pcie-root-port,id=port$port,chassis=$((port + 1))"
	devices="$devices,addr=$addr,multifunction=on,hotplug=off,io-reserve=0"
	case $1 in
	[0-9]*)
		devices="$devices -object memory-backend-ram,id=memory$port,size=$1"
		device=ivshmem-plain,memdev=memory$port ;;
	bochs) device=bochs-display,vgamem=4M,romfile= ;;
	ivshmem-doorbell)
		[ "$server" ] || server=$("$build/selftests/ivshmem_server" "$scratch/server") ||
			die "ivshmem-doorbell needs what 'make selftests' builds"
		devices="$devices -chardev socket,id=doorbell$port,path=$scratch/server"
		device=$1,vectors=1,chardev=doorbell$port ;;
	*) device=$1 ;;
	esac
	devices="$devices -device $device,id=device$port,bus=port$port"
}

# Appends a disk of each size in $* to $devices.  What it writes need not survive the
# machine, so the host may take its time.
add_disks() {
	disk=0
	for size; do
		truncate -s "$size" "$scratch/disk$disk"
		devices="$devices -drive if=none,id=disk$disk,file=$scratch/disk$disk,format=raw,cache=unsafe"
		devices="$devices -device virtio-blk-pci,addr=1.$((3 + disk)),drive=disk$disk"
		devices="$devices,logical_block_size=4096,physical_block_size=4096"
		disk=$((disk + 1))
	done
}

# A file system in memory that has just what guest-init needs to find the root.
make_initrd() {
	tree=$scratch/initrd
	mkdir -p "$tree/bin" "$tree/modules" "$tree/dev" "$tree/proc" "$tree/sys" \
		"$tree/lower" "$tree/upper" "$tree/newroot"
	cp "$(command -v busybox)" "$tree/bin/busybox"
	ln -s busybox "$tree/bin/sh"
	cp "$here/guest-init" "$tree/init"
	for module in 9p 9pnet_virtio overlay; do
		modprobe -d "${KMODULES%/lib/modules/*}" -S "$KVER" --show-depends $module
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
		nl -n rz | while read -r n file; do
		cp "$file" "$tree/modules/$n.ko"
	done
	(cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null) >"$scratch/initrd.cpio"
}

splat='Oops|BUG:|kernel BUG at|WARNING:|Call Trace|Kernel panic|KASAN|UBSAN'
splat="$splat|general protection fault|INFO: (task|rcu|possible|trying)"
splat="$splat|detected stalls|soft lockup|refcount_t:|suspicious RCU"
splat="$splat|kmemleak: [0-9]+ objects stay|unregister_netdevice: waiting"

# Reports what the kernel complained about, if it did: the first of each test.
check_log() {
	awk -v splat="$splat" '
		{ sub(/\r$/, "") }
		/\] # selftests: / { during = ", in " $NF }
		/\] (not )?ok [0-9]+ selftests: / { during = "" }
		$0 ~ splat && !seen[during]++ {
			print "vm.sh: the kernel complained" during ":"
			print before[2] before[1] before[0] $0
			left = 50
			bad = 1
			next
		}
		left && left-- { print }
		{ before[2] = before[1]; before[1] = before[0]; before[0] = $0 "\n" }
		END { exit bad }' "$log" >&2
}

# Was its first complaint a breakpoint that memory does not have?  While the kernel
# patches its own code QEMU may still run what it has translated before.  The byte
# before the one in <> is where it was.
met_phantom() {
	awk -v splat="$splat" '
		!met && $0 ~ splat { met = 1; if (!/Oops: int3:/) exit }
		met && /Code: / { found = !/ cc </; exit }
		END { exit !found }' "$log"
}

# Ends a machine that has given no sign of life for some minutes.  A kernel that
# hangs says so before, and its CPUs do not all sleep: if they do, emulation has
# lost the end of an interrupt.
watch() {
	while sleep 20; do
		[ "$(find "$output/alive" -mmin +$((1 + patience / 60)))" ] || continue
		"$build/selftests/qmp" "$scratch/host" human-monitor-command \
			"command-line=info registers -a" >"$output/registers" || :
		! grep -q HLT=1 "$output/registers" || grep -q HLT=0 "$output/registers" ||
			echo >"$output/asleep"
		kill $pid
		return
	done
}

# Did QEMU end by a fault of its own?  timeout dies of the same signal then.  To
# be killed is no fault: that is what timeout does at last, or lack of memory.
crashed() {
	[ "$1" -gt 128 ] || return 1
	case $(kill -l $(($1 - 128))) in
	ILL | TRAP | ABRT | BUS | FPE | SEGV) ;;
	*) return 1 ;;
	esac
}

kernel=${KERNEL:-6.12} pairs=${PAIRS:-4K,1M,256M,bochs} memory=2G limit= output=
arguments= disks= slow= cpus="tcg,thread=multi -smp 2"
while getopts ik:a:p:d:m:t:o:h option; do
	case $option in
	i) cpus="tcg,thread=single -smp 1 -icount shift=0,sleep=off" slow=1 ;;
	k) kernel=$OPTARG ;;
	a) arguments=$OPTARG ;;
	p) pairs=$OPTARG ;;
	d) disks="$disks $OPTARG" ;;
	m) memory=$OPTARG ;;
	t) limit=$OPTARG ;;
	o) output=$OPTARG ;;
	h) usage; exit 0 ;;
	*) usage >&2; exit 125 ;;
	esac
done
shift $((OPTIND - 1))

here=$(cd "$(dirname "$0")" && pwd)
qemu=$(command -v qemu-system-x86_64) || die "qemu-system-x86_64 is missing; run 'make deps'"
version=$($qemu --version | sed -n 's/.*version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
[ "$(printf '%d%02d' $version)" -ge 702 ] || die "QEMU 7.2 or later is needed"
env=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfio-multifd}/$kernel/env
[ -e "$env" ] || die "there is no kernel $kernel; run 'make kernel KERNEL=$kernel'"
. "$env"
# What was built is to be seen as if it were installed.
build=$here/../build
[ ! -d "$build/$kernel/lib/modules/$KVER" ] ||
	KMODULES=$(cd "$build/$kernel/lib/modules/$KVER" && pwd)

scratch=$(mktemp -d)
pid= server= saved= watch=
trap '[ -z "$pid$server$watch" ] || kill $pid $server $watch 2>/dev/null || :
	[ -z "$saved" ] || stty "$saved"
	rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
output=${output:-$scratch/output}
mkdir -p "$output"
output=$(cd "$output" && pwd)
log=$output/kernel.log
rm -f "$output/status" "$output/asleep"
echo >"$output/alive"

tty=
if [ -t 0 ] && [ -t 1 ]; then
	saved=$(stty -g)
	size=$(stty size)
	tty="stty rows ${size% *} cols ${size#* }"
fi
if [ $# = 0 ]; then
	[ "$tty" ] || die "a shell needs a terminal"
	cat <<-END
		Devices in pairs, on buses 1, 2, 3...: $pairs
		The host's files are read-only here; what is written goes with "exit".
	END
	set -- bash
	limit=${limit:-0}
fi
# What a script starts all the time
hot=$(for program in "$build"/selftests/vmm "$build"/selftests/await "$build"/selftests/left \
		"$build"/user/vfio-multifd "$(command -v busybox)"; do
	[ ! -e "$program" ] || echo "$program"
	ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || :
done | sort -u)
cat >"$output/job" <<END
KVER=$(quote "$KVER")
KMODULES=$(quote "$KMODULES")
tty=$(quote "$tty")
hot=$(quote "$(echo $hot)")
built=$(quote "$build/user")
export PATH=\$built:\$PATH
export CACHE=$(quote "${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfio-multifd}")
export VM_HOST_OUTPUT=$(quote "$output")
export TERM=$(quote "${TERM:-dumb}") CI=$(quote "${CI:-}")
job() {
	cd $(quote "$PWD")
	exec $(quote "$@")
}
END
make_initrd
devices=
add_pairs "$pairs"
add_disks $disks

# With five levels of page tables KASAN of 7.x takes all memory for wild in an interrupt that
# comes while the CPU's features are found out.
run() {
	exec timeout --foreground -k 5 "${limit:-900}" "$qemu" -nodefaults -display none -no-reboot \
		-M q35,kernel-irqchip=off -accel $cpus -m "$memory" \
		-cpu max,-erms,-fsrm,-la57 -device intel-iommu,intremap=on \
		-kernel "$KIMAGE" -initrd "$scratch/initrd.cpio" -append "$append" \
		-chardev file,id=log,path="$log" -serial chardev:log \
		-chardev stdio,id=console,signal=off \
		-device virtio-serial-pci,addr=1.0,multifunction=on \
		-device "$console,chardev=console" \
		-chardev socket,id=monitor,path="$scratch/monitor",server=on,wait=off \
		-mon chardev=monitor,mode=control \
		-chardev socket,id=qmp,path="$scratch/monitor" \
		-device virtserialport,chardev=qmp,name=qmp \
		-chardev socket,id=host,path="$scratch/host",server=on,wait=off \
		-mon chardev=host,mode=control \
		-fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap \
		-device virtio-9p-pci,addr=1.1,fsdev=root,mount_tag=root \
		-fsdev local,id=output,path="$output",security_model=none \
		-device virtio-9p-pci,addr=1.2,fsdev=output,mount_tag=output \
		$devices "$@"
}

# Mitigations make emulation slower still, and a slow machine is not a stuck one.
append="console=ttyS0 intel_iommu=on panic=-1 oops=panic mitigations=off no_timer_check"
# Emulation loses a timer's interrupt once in a while: one that is periodic
# comes again, while a CPU that waits for a single one sleeps for ever.
append="$append nohz=off highres=off"
# Emulation keeps what it has translated by address: a program that is somewhere
# else each time is translated each time.
append="$append norandmaps thash_entries=512 $arguments"
case $kernel-$slow in *-debug-* | *-1) patience=240 ;; *) patience=60 ;; esac
append="$append sysctl.kernel.hung_task_panic=1 sysctl.kernel.hung_task_timeout_secs=$patience"
append="$append softlockup_panic=1 watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=$patience"
status=0
if [ "$tty" ]; then
	console=virtconsole
	exec 3<&0
	run <&3 &
	pid=$!
else
	# much faster than a console; would be closed at the end of its input
	console=virtserialport
	mkfifo "$scratch/in" "$scratch/out"
	run <>"$scratch/in" >"$scratch/out" &
	pid=$!
	cat "$scratch/out" &
	cat=$!
fi
watch >/dev/null 2>&1 &
watch=$!
wait $pid || status=$?
kill $watch 2>/dev/null || :
pid=
[ "$tty" ] || wait $cat

if ! check_log; then
	status=125
	! met_phantom || status=126
elif [ -s "$output/status" ]; then
	status=$(cat "$output/status")
	# these are said of the machine alone
	case $status in 124 | 125 | 126) status=1 ;; esac
elif [ -e "$output/asleep" ]; then
	echo "vm.sh: all CPUs of QEMU sleep for ever; the kernel's last words:" >&2
	tail -n 5 "$log" >&2
	status=126
elif [ $status = 124 ]; then
	echo "vm.sh: killed after ${limit:-900} seconds; the kernel's last words:" >&2
	tail -n 5 "$log" >&2
elif crashed $status; then
	echo "vm.sh: QEMU died of signal $((status - 128)); the kernel's last words:" >&2
	tail -n 5 "$log" >&2
	status=126
else
	echo "vm.sh: the machine stopped too early; the kernel's last words:" >&2
	tail -n 20 "$log" >&2
	status=125
fi
exit "$status"
