# SPDX-License-Identifier: GPL-2.0-only
#
# gnuplot -e "directory='...'" bench.gnuplot: pictures of what bench_report.awk left there

set terminal pngcairo size 900,540 font "sans,11" noenhanced
set style data linespoints
set grid ytics
set key top left
sizes = directory . "/bench.size"
bars = directory . "/bench.bars"
line = directory . "/bench.line"

set output directory . "/downtime.png"
set title "How long a device stands still, 4 channels"
set xlabel "MiB of state"
set ylabel "ms"
set logscale xy
plot for [i = 0:5] sizes index i using 2:3 title columnheader(1) linewidth 2
unset logscale

set style data histogram
set style fill solid 0.8 border -1
set boxwidth 0.8
set xtics rotate by -30
unset key
unset xlabel
set yrange [0:*]

set output directory . "/cpu.png"
set title "CPU seconds per GiB, 256 MiB over 4 channels"
set ylabel "s"
plot bars using 2:xtic(1)

set output directory . "/memory.png"
set title "Memory for data at the destination, 256 MiB over 4 channels"
set ylabel "MiB"
plot bars using 3:xtic(1)

set output directory . "/timeline.png"
set title "One migration: 256 MiB over 4 channels"
set ylabel ""
set xlabel "ms"
set xtics norotate
set xrange [0:*]
set yrange [*:*] reverse
set offsets 0, 0, 0.5, 0.5
plot line using 2:0:2:3:($0 - 0.3):($0 + 0.3):ytic(1) with boxxyerror
