# SPDX-License-Identifier: GPL-2.0-only
#
# Counts the results in TAP streams, one per kernel, named KERNEL.tap.
#
# The runner of the kselftests prints a program's results after "# ", and then
# one for the program, which counts where it says more than the ones before.
# The machine has all that the tests need: what is skipped is a failure, and so
# is what was planned and did not come.  Only a kernel or a QEMU may be skipped,
# and what "this kernel", as the reason then begins, cannot do; a debug kernel can
# do all but one thing.
#
# A failure is shown with the last lines that came between it and the result
# before it.

BEGIN {
	LINES = 25
}

function fail(line,	i) {
	failed[++failures] = kernel ": " line
	for (i = said > LINES ? said - LINES : 0; i < said; i++)
		details[failures] = details[failures] "\n    " says[i % LINES]
	said = 0
	bad[program, kernel]++
}

function count(line) {
	if (line ~ /^not ok/)
		fail(line)
	else if (line ~ /^ok 1 kernel .* # SKIP/) {
		absent[kernel] = 1
		skipped[++skips] = line
	} else if (line ~ /^ok 1 qemu-[^ ]* # SKIP/)
		skipped[++skips] = line
	else if (line ~ /# SKIP this kernel / &&
		   (kernel !~ /-debug$/ || line ~ /aer_inject$/))
		skipped[++skips] = kernel ": " line
	else if (line ~ /# SKIP/)
		fail(line)
	else {
		passes++
		good[program, kernel]++
	}
}

# A program that began must have ended.
function end_program() {
	if (running)
		fail(program ": has no result")
	running = 0
	program = "others"
}

FNR == 1 {
	end_program()
	kernel = FILENAME
	sub(/\.tap$/, "", kernel)
	kernels[++nr_kernels] = kernel
	results = plan = 0
}

/^# selftests: / {
	end_program()
	running = 1
	program = $NF
	if (!(program in known)) {
		known[program] = 1
		order[++nr_programs] = program
	}
	results = plan = 0
	why = ""
	failures_before = failures
	next
}

/^ok [0-9]+ selftests: / || /^not ok [0-9]+ selftests: / {
	programs[kernel]++
	if (results != plan)
		fail($0 ": " plan " results were planned, " results " came")
	else if (!results || (/^not/ && failures == failures_before))
		count($0 why)
	running = 0
	program = "others"
	next
}

/^1\.\.[0-9]/ {
	planned[kernel] += substr($1, 4)
	next
}

/^# QEMU crashed: / {
	notes[++nr_notes] = substr($0, 3)
	next
}

/^vm.sh: the kernel complained, in / {
	program = $NF
	sub(/:$/, "", program)
	fail($0)
	program = "others"
	next
}

/^# 1\.\.[0-9]/ {
	plan = substr($2, 4) + 0
	if (sub(/.*# SKIP/, ""))
		why = $0
	next
}

/^(# )?(not )?ok [0-9]/ {
	results += sub(/^# /, "")
	count($0)
	said = 0
	next
}

{
	says[said++ % LINES] = $0
}

function row(name,	k, n, b) {
	printf "%-24s", name
	for (k = 1; k <= nr_kernels; k++) {
		n = good[name, kernels[k]] + 0
		b = bad[name, kernels[k]] + 0
		printf "%12s", b ? n "/" n + b : n ? n : "-"
	}
	print ""
}

END {
	end_program()
	for (k = 1; k <= nr_kernels; k++) {
		kernel = kernels[k]
		n = programs[kernel]
		if (kernel == "lint")
			n = good["others", kernel] + bad["others", kernel]
		if (!absent[kernel] && (!n || n != planned[kernel]))
			fail(n + 0 " of " planned[kernel] + 0 " came to an end")
	}
	if (nr_kernels < ARGC - 1)
		fail(ARGC - 1 - nr_kernels " of " ARGC - 1 " streams are empty")
	printf "\n%-24s", "passed"
	for (k = 1; k <= nr_kernels; k++)
		printf "%12s", kernels[k]
	print ""
	for (i = 1; i <= nr_programs; i++)
		row(order[i])
	row("others")
	print ""
	for (i = 1; i <= nr_notes; i++)
		print notes[i]
	for (i = 1; i <= skips; i++)
		print "skipped: " skipped[i]
	for (i = 1; i <= failures; i++)
		print "FAILED: " failed[i] details[i]
	printf "%d passed, %d failed, %d skipped\n", passes, failures, skips
	exit failures != 0
}
