#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# How many instructions it takes to move a MiB, against what instructions.txt has, as
# "contender content millions", of the kernel in its first line.  For a machine whose
# clock counts them (vm.sh -i).  Fails if one takes 5 % more, if it takes 5 % less, as it
# must be recorded then to see it grow again, or if five runs but the least and the most
# differ by more than 2 %, which says nothing then.  Exits with 4 on another kernel.
#
# A wait for a timer counts, too: now and then one run differs by 2 to 10 % from the others.
. "$(dirname "$0")/lib.sh"

mib=64 seed=0
record=$here/instructions.txt

# Each run's time is in ms, of a million instructions.  The first one is not counted.
count() {
	for run in 0 1 2 3 4 5; do
		seed=$((seed + 1))
		line=$("$bin/bench" "$1" 4 "$2" $seed src dst "$DST4" $chosen) || return
		[ $run = 0 ] || echo "$1 $2 ${line%% *}"
	done
}

lib_setup
chosen=$(awk -v bytes=$((mib << 20)) '$2 ~ /^ivshmem/ && $4 == bytes { print $1 }' "$work/devices")
[ $(echo $chosen | wc -w) = 2 ] || { echo "bench_check.sh: wants two devices of $mib MiB" >&2; exit 1; }
for contender in kernel kernel-plain user; do
	for content in full half zero; do
		count $contender $content || exit
	done
done >"$work/counts"
awk -v mib=$mib -v release="$(uname -r)" '
	FNR == 1 && FILENAME == ARGV[1] {
		other = index(release, $NF ".") != 1
		if (other)
			print "recorded with Linux " $NF ", so a change is only shown: this is " release
		next
	}
	FILENAME == ARGV[1] { was[$1 " " $2] = $3; next }
	{
		key = $1 " " $2
		if (!(key in n))
			order[++keys] = key
		# in order, the least one first
		for (i = n[key]++; i && count[key, i] > $3; i--)
			count[key, i + 1] = count[key, i]
		count[key, i + 1] = $3
	}
	END {
		print "contender     content  millions/MiB  spread %  recorded  change %"
		for (i = 1; i <= keys; i++) {
			key = order[i]
			split(key, part, " ")
			median = count[key, (n[key] + 1) / 2]
			spread = (count[key, n[key] - 1] - count[key, 2]) * 100 / median
			change = was[key] ? (median / mib / was[key] - 1) * 100 : 0
			verdict = ""
			if (spread > 2) { verdict = "differs from run to run"; bad = 1 }
			else if (!was[key]) { verdict = "not recorded"; bad = 1 }
			else if (change > 5 && !other) { verdict = "TOO MANY"; bad = 1 }
			else if (change < -5 && !other) { verdict = "to be recorded"; bad = 1 }
			printf "%-13s %-7s %13.3f %9.2f %9.3f %+9.2f  %s\n", part[1], part[2], median / mib,
				spread, was[key], change, verdict
		}
		exit bad ? 1 : other ? 4 : 0
	}' "$record" "$work/counts"
