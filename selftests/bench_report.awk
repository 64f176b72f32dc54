# SPDX-License-Identifier: GPL-2.0-only
#
# awk -f bench_report.awk DIRECTORY=... figures: tables of what bench.sh has measured,
# and what it is to reach; leaves bench.json, and the data for bench.gnuplot, in DIRECTORY.
#
# A line of figures: cell, MiB, devices, channels, content, contender, and then
# milliseconds (all, of CPUs, to stop, to stream, to end the load) and KiB (for data at the
# destination, at the source, in buffers of sockets), "-" for what there is not.

BEGIN {
	fields = split("total_ms cpu_ms stop_ms stream_ms load_ms memory_kib source_kib socket_kib", key)
}

$1 == "#" { linux = $2; cpus = $3; emulated = $4 == "emulated"; next }

{
	if (!($1 in number)) {
		number[$1] = ++cells
		cell[cells] = $1
		about[$1] = "\"mib\": " $2 ", \"devices\": " $3 ", \"channels\": " $4 ", \"content\": \"" $5 "\""
		bytes[$1] = ($2 ? $2 * 1024 : 4) * $3 / 1048576	# GiB
	}
	if (!(($1, $6) in runs))
		contenders[$1] = contenders[$1] " " $6
	run = ++runs[$1, $6]
	for (i = 1; i <= fields; i++)
		value[$1, $6, i, run] = $(6 + i)
}

function median(c, who, i,    n, j, k, v, t) {
	n = runs[c, who]
	for (j = 1; j <= n; j++) {
		v = value[c, who, i, j] + 0
		for (k = j - 1; k && t[k] > v; k--)
			t[k + 1] = t[k]
		t[k + 1] = v
	}
	return n % 2 ? t[(n + 1) / 2] : (t[n / 2] + t[n / 2 + 1]) / 2
}

# The same with malloc tuned may be better, and then counts.
function best(c, who, i) {
	if (!((c, who "-tuned") in runs) || median(c, who, i) < median(c, who "-tuned", i))
		return who
	return who "-tuned"
}

function kib(c, who, i) {
	return value[c, who, i, 1] == "-" ? "-" : sprintf("%d", median(c, who, i))
}

function table(c,    n, i, j, who) {
	printf "\n%s: %s\n%-16s%9s%9s%9s%9s%9s%10s%10s%10s%10s\n", c, about[c], "", "time ms", "stop",
		"stream", "load", "CPU ms", "CPU s/GiB", "dst KiB", "src KiB", "sockets"
	n = split(contenders[c], who, " ")
	for (i = 1; i <= n; i++) {
		printf "%-16s%9.1f%9.1f%9.1f%9.1f%9.0f%10.2f%10s%10s%10d\n", who[i], median(c, who[i], 1),
			median(c, who[i], 3), median(c, who[i], 4), median(c, who[i], 5),
			median(c, who[i], 2), median(c, who[i], 2) / 1000 / bytes[c],
			kib(c, who[i], 6), kib(c, who[i], 7), median(c, who[i], 8)
	}
}

function number_or_null(v) {
	return v == "-" ? "null" : v
}

function json(file,    c, i, j, k, n, who) {
	printf "{\"linux\": \"%s\", \"cpus\": %d, \"emulated\": %s, \"packet_bytes\": 1048576, \"cells\": [",
		linux, cpus, emulated ? "true" : "false" >file
	for (c = 1; c <= cells; c++) {
		printf "%s\n {\"name\": \"%s\", %s", (c > 1 ? "," : ""), cell[c], about[cell[c]] >file
		n = split(contenders[cell[c]], who, " ")
		for (i = 1; i <= n; i++) {
			printf ",\n  \"%s\": {", who[i] >file
			for (j = 1; j <= fields; j++) {
				printf "%s\"%s\": [", (j > 1 ? ", " : ""), key[j] >file
				for (k = 1; k <= runs[cell[c], who[i]]; k++)
					printf "%s%s", (k > 1 ? ", " : ""), number_or_null(value[cell[c], who[i], j, k]) >file
				printf "]" >file
			}
			printf "}" >file
		}
		printf "}" >file
	}
	printf "\n]}\n" >file
	close(file)
}

# compare WHAT CELL CONTENDER FIGURE CELL CONTENDER LIMIT: is the ratio of medians that low?
# Beside it that of each turn, least and most: what the machine does to one and the same.
# Turns of another cell were at another time.
function compare(what, c, who, i, other_c, other, limit,    k, r, least, most, turns) {
	if (!(c in number))
		return
	if (!((c, who) in runs) || !((other_c, other) in runs)) {
		printf "%-56s%30s\n", what, "not measured"
		return
	}
	for (k = 1; k <= runs[c, who] && k <= runs[other_c, other]; k++) {
		r = value[c, who, i, k] / value[other_c, other, i, k]
		if (k == 1 || r < least)
			least = r
		if (k == 1 || r > most)
			most = r
	}
	r = median(c, who, i) / median(other_c, other, i)
	turns = c == other_c ? sprintf("(%.2f-%.2f)", least, most) : ""
	printf "%-56s%7.2f %11s%7.2f  %s\n", what, r, turns, limit,
		r <= limit ? "reached" : "NOT REACHED"
}

function against(c, who, i, other, limit) {
	if (other ~ /off$/)
		other = best(c, other, i)
	compare(c ": " (i == 1 ? "time" : "CPU") " of " who " to that of " other, c, who, i, c,
		other, limit)
}

function bars(    n, i, c, m, list) {
	print "\nto reach:"
	n = split("256M 4x256M 1G", list, " ")
	for (i = 1; i <= n; i++) {
		c = list[i]
		against(c, "kernel", 1, "user", 0.70)
		against(c, "kernel", 1, "qemu", 0.30)
		against(c, "kernel", 1, "qemu-tuned", 0.42)
		against(c, "kernel", 1, "qemu-off", 0.38)
		against(c, "kernel", 2, "user", 0.70)
		against(c, "kernel", 2, "qemu", 0.28)
		against(c, "kernel", 1, "iperf3", 1 / 0.85)
		if (!((c, "kernel") in runs))
			continue
		m = median(c, "kernel", 6) / 8192
		printf "%-56s%7.2f%19.2f  %s\n", c ": memory, in channels x 2 MiB", m, 1,
			m <= 1 ? "reached" : "NOT REACHED"
	}
	compare("half-zero: time to that of full state", "half-zero", "kernel", 1, "256M", "kernel", 0.60)
	compare("nothing: time to that of user for 256M", "nothing", "kernel", 1, "256M", "user", 0.10)
	against("foreign", "foreign", 1, "user", 1)
	compare("foreign: time to that of qemu for 256M", "foreign", "foreign", 1, "256M", "qemu", 0.45)
}

# plot FILE CELLS...: a line for each contender, of all its medians
function plot(file, list,    n, i, j, k, who, cs) {
	n = split(list, cs, " ")
	k = split("kernel kernel-plain user qemu qemu-tuned qemu-off", who, " ")
	for (j = 1; j <= k; j++) {
		printf "\"%s\"\n", who[j] >file
		for (i = 1; i <= n; i++)
			if ((cs[i], who[j]) in runs)
				printf "%s %.4f %.1f %.3f %.1f\n", cs[i], bytes[cs[i]] * 1024, median(cs[i], who[j], 1),
					median(cs[i], who[j], 2) / 1000 / bytes[cs[i]], median(cs[i], who[j], 6) / 1024 >file
		printf "\n\n" >file
	}
	close(file)
}

# columns FILE CELL: CPU seconds per GiB, and MiB of memory
function columns(file, c,    n, i, who) {
	n = split(contenders[c], who, " ")
	for (i = 1; i <= n; i++)
		if (median(c, who[i], 6))
			printf "%s %.3f %.1f\n", who[i], median(c, who[i], 2) / 1000 / bytes[c],
				median(c, who[i], 6) / 1024 >file
	close(file)
}

END {
	if (!cells)
		exit 1
	printf "Linux %s, %d CPUs%s; medians of %d runs\n", linux, cpus,
		emulated ? ", emulated (TCG): only ratios mean something" : "", runs[cell[1], "kernel"]
	for (i = 1; i <= cells; i++)
		table(cell[i])
	bars()
	json(DIRECTORY "/bench.json")
	plot(DIRECTORY "/bench.size", "64M 256M 1G")
	columns(DIRECTORY "/bench.bars", "256M")
}
