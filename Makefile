# SPDX-License-Identifier: GPL-2.0-only
#
# "make help" lists what there is to make.
#
# Variables:
#	KERNEL	the kernel to build against and to test with: a name that
#		selftests/kernel.sh knows, or a release with headers in /lib/modules
#	KERNELS	those that "test" runs on
#	CACHE	where fetched kernels stay; remove it to fetch them anew
#	PARTS	which modules to build, of "multifd pci"
#	PAIRS	the devices in the virtual machine, see "selftests/vm.sh -h"
#	DESTDIR, PREFIX
#		where to install
#
# What selftests/ needs of the kernel's own selftests (kselftest_harness.h) is
# in KSELFTEST_DIR, which is exported: compile with -I$(KSELFTEST_DIR).

SHELL := /bin/bash
KERNEL ?= $(if $(filter soak,$(MAKECMDGOALS)),6.12-debug,6.12)
KERNELS ?= 6.12 6.12-debug
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vfio-multifd
PREFIX ?= /usr/local
UDEVDIR ?= /usr/lib/udev/rules.d

kernel := $(CACHE)/$(KERNEL)
BUILD := $(CURDIR)/build/$(KERNEL)
RESULTS := $(CURDIR)/build/results
source := $(CACHE)/6.12/source
KSELFTEST_DIR := $(source)/tools/testing/selftests
export KERNEL CACHE PREFIX DESTDIR KSELFTEST_DIR

packages := bc bison busybox-static cppcheck dmsetup e2fsprogs flex gcc gcc-12 iperf3 iproute2 kmod libc6-dev libelf-dev libkmod-dev \
	libnl-genl-3-dev libssl3 libxxhash-dev make mandoc perl pkg-config python3-docutils python3-jsonschema python3-yaml qemu-system-x86 sparse xz-utils

help:	## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

deps:	## install the packages that are missing (apt-get, as root)
	@missing=$$(for p in $(packages); do dpkg -s $$p 2>/dev/null | \
		grep -q '^Status: .* installed' || echo $$p; done); \
	apt-cache show linux-image-6.12-amd64 >/dev/null 2>&1 && [ -z "$$missing" ] || { \
	cmd="apt-get update && apt-get install -y --no-install-recommends $$(echo $$missing)"; \
	echo "$$cmd"; [ $$(id -u) = 0 ] || { echo "(run this as root)"; exit 1; }; \
	DEBIAN_FRONTEND=noninteractive sh -c "$$cmd"; }

kernel: $(kernel)/env	## fetch the kernel to build against and to test with

# Asks each time: kernel.sh knows whether what is there is still what is wanted.
$(sort $(kernel)/env $(CACHE)/6.12/env $(source)): deps
	@mkdir -p $(@D)
	@flock $(@D) selftests/kernel.sh $(notdir $(@D)) $(@D) $(@F)

# Modules are built in a directory of links to their sources, one per kernel.
kbuild = mkdir -p $(1) && exec 9<$(1) && flock 9 && \
	cp -rsf $(CURDIR)/Kbuild $(CURDIR)/kernel $(1) && mkdir -p $(1)/selftests && \
	cp -rsf $(CURDIR)/selftests/modules $(1)/selftests && . $(kernel)/env && \
	$(MAKE) -C "$$KDIR" M=$(1) CONFIG_DEBUG_INFO_BTF_MODULES= $(2) modules

# The second half makes them look installed, for the virtual machine.
modules: $(kernel)/env	## build the modules into build/KERNEL/kernel
	@$(call kbuild,$(BUILD))
	@. $(kernel)/env && root=$(BUILD)/lib/modules/$$KVER && mkdir -p $$root/updates && \
	ln -sfn $$KMODULES/kernel $$root/kernel && \
	cp $$KMODULES/modules.{order,builtin,builtin.modinfo} $$root && \
	cp $(BUILD)/kernel/*/*.ko $(BUILD)/selftests/modules/*.ko $$root/updates && depmod -b $(BUILD) $$KVER

# The helper and the library as they are tested for what C leaves undefined
sanitizers := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
sanitized: deps
	@$(MAKE) -C user O=$(CURDIR)/build/asan CFLAGS='$(sanitizers) -Wall -Wextra -Werror'

user: deps	## build the helper and its library
	@$(MAKE) -C user

selftests: user $(source)	## build the tests and the reference VMM
	@$(MAKE) -C selftests

vm: modules user selftests	## a shell in the virtual machine
	@selftests/vm.sh || :

demo: deps modules user selftests	## migrate two devices between two hosts
	@selftests/vm.sh -t 600 -- selftests/demo.sh

# CELLS= selects some of those that bench.sh knows, and GRID= has it know others; each is
# measured RUNS= times.
bench: packages += gnuplot-nox
bench: pairs := $(if $(GRID),4K 1M 16M 8x64M 4x256M 1G 4G,4K 64M 4x256M 1G)
bench: deps modules user selftests qemu-10.0	## measure, beside QEMU, user space and iperf3
	@mkdir -p $(RESULTS)/bench
	@selftests/vm.sh -t $(or $(BENCH_TIME),1800) -m 6G -p $$(echo $(pairs) | tr ' ' ,) -o $(RESULTS)/bench -- \
		env GRID=$(GRID) RUNS=$(RUNS) selftests/bench.sh $(CELLS)
	@awk -v DIRECTORY=$(RESULTS)/bench -f selftests/bench_report.awk $(RESULTS)/bench/figures
	@[ "$(GRID)$(CELLS)" ] || gnuplot -e "directory='$(RESULTS)/bench'" selftests/bench.gnuplot
	@echo "bench.json and plots of all cells are in $(RESULTS)/bench"

bench-full:	## measure each size, number of devices and channels, and content (hours)
	@$(MAKE) --no-print-directory bench GRID=full BENCH_TIME=14400

bench-check: modules user selftests	## count instructions, against those that were recorded
	@selftests/vm.sh -i -t 600 -m 4G -p 64M -- selftests/bench_check.sh

# A QEMU or a kernel that cannot be had, for which the script exits with 4, is
# skipped and said.
fetch = mkdir -p $(RESULTS) $(CACHE)/$(1) && rm -f $(RESULTS)/$(1).skip; \
	status=0; flock $(CACHE)/$(1) selftests/$(2) 2>$(RESULTS)/$(1).err || status=$$?; \
	cat $(RESULTS)/$(1).err >&2; \
	case $$status in 4) tail -n 1 $(RESULTS)/$(1).err >$(RESULTS)/$(1).skip ;; esac; \
	case $$status in 0 | 4) ;; *) exit $$status ;; esac

QEMUS := qemu-10.0 qemu-newest
$(QEMUS): deps
	@$(call fetch,$@,stock_qemu.sh $@ $(CACHE)/$@)

test: $(KERNELS:%=modules-%) $(QEMUS) selftests sanitized	## lint, and run all tests in virtual machines
	@LONG=$(LONG) selftests/check.sh $(RESULTS) $(KERNELS)

SOAK_COUNT ?= 200
soak: modules user selftests	## SOAK_COUNT random migrations (SOAK_SEED= repeats some)
	@mkdir -p $(RESULTS)/soak
	@selftests/vm.sh -t 7200 -k $(KERNEL) -m 4G -p 4K,1M,bochs -o $(RESULTS)/soak -a kmemleak=off -- \
		env SOAK_COUNT=$(SOAK_COUNT) SOAK_SEED=$(SOAK_SEED) selftests/soak.sh

test-all:	## test with the newest kernel, too, and what takes long
	@$(MAKE) --no-print-directory test KERNELS='6.12 6.12-debug 7.x-debug' LONG=1

$(KERNELS:%=modules-%): modules-%: user
	@$(call fetch,$*,kernel.sh $* $(CACHE)/$* env)
	@[ -e $(RESULTS)/$*.skip ] || $(MAKE) --no-print-directory modules KERNEL=$*

# One line of TAP per check; what a check printed comes before it if it failed.
checks := checkpatch warnings sparse user cppcheck sanitizers rst man
lint:	## check the sources
	@status=0; n=0; echo 1..$(words $(checks)); for check in $(checks); do n=$$((n + 1)); \
	if output=$$($(MAKE) -s --no-print-directory lint-$$check 2>&1); \
	then echo "ok $$n lint $$check"; \
	else printf '%s\n' "$$output"; echo "not ok $$n lint $$check"; status=1; fi; \
	done; exit $$status

# What TRACE_EVENT() and TRACE_DEFINE_ENUM() look like everywhere
trace_style := COMPLEX_MACRO,MACRO_ARG_UNUSED,OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT,TRAILING_SEMICOLON

# What only the kernel has is not asked of user space.
kernel_only := ARRAY_SIZE,BIT_MACRO,CAMELCASE,EMBEDDED_FUNCTION_NAME,ENOSYS,PREFER_DEFINED_ATTRIBUTE_MACRO
kernel_only := $(kernel_only),MACRO_WITH_FLOW_CONTROL,PREFER_KERNEL_TYPES,STRCPY,VOLATILE
checkpatch := perl $(source)/scripts/checkpatch.pl --strict --no-tree \
	--root=$(CURDIR)/kernel --terse --no-summary --quiet --file
lint-checkpatch: $(source)
	@status=0; $(checkpatch) $$(find kernel -name '*.[ch]' ! -name trace.h) || status=1; \
	$(checkpatch) selftests/modules/* || status=1; \
	$(checkpatch) --ignore $(trace_style) kernel/*/trace.h || status=1; \
	$(checkpatch) --ignore $(kernel_only) \
	$$(find user selftests -name '*.[ch]' ! -path '*/modules/*') || status=1; exit $$status

lint-warnings: $(kernel)/env
	@$(call kbuild,$(BUILD)-lint,W=1 KCFLAGS=-Werror)

lint-sparse: $(kernel)/env
	@$(call kbuild,$(BUILD)-lint,W=1 KCFLAGS=-Werror C=2 CF=-Wsparse-error)

lint-user: $(source)
	@$(MAKE) -C user O=$(CURDIR)/build/lint/user CFLAGS='-O2 -Wall -Wextra -Werror'
	@$(MAKE) -C selftests OUTPUT=$(CURDIR)/build/lint/selftests CFLAGS='-O2 -Wall -Wextra -Werror'

# Pointers to void are counted with in GNU C, and "x = y ?: x" is no "x = x".
# ASSERT_EQ and EXPECT_EQ have a block behind them, which is no C without them.
lint-cppcheck: deps
	@cppcheck --quiet --enable=warning,performance,portability --error-exitcode=1 \
	--inline-suppr --suppress=arithOperationsOnVoidPointer --suppress=selfAssignment \
	'-DASSERT_EQ(a, b)=if ((a) != (b))' '-DEXPECT_EQ(a, b)=if ((a) != (b))' \
	-Iuser -Iuser/lib -Ikernel/include -Ikernel/include/uapi user selftests

lint-sanitizers: sanitized
	@$(CC) -std=gnu11 -D_GNU_SOURCE $(sanitizers) -Wall -Wextra -Werror -Wno-unused-parameter \
	-Iuser -Iuser/lib -Ikernel/include/uapi -o build/asan/hostile_peer \
	selftests/hostile_{peer,stand_ins}.c build/asan/libvfio-multifd.a -pthread
	@build/asan/hostile_peer

lint-rst:
	@for f in Documentation/*.rst; do rst2html --report=warning --halt=warning $$f >/dev/null || exit; done

lint-man:
	@mandoc -T lint -W warning Documentation/*.[1-9]

# A machine that is only to use it needs no emulator.
install: packages := gcc gcc-12 kmod libc6-dev libelf1 libkmod-dev libnl-genl-3-dev libxxhash-dev make pkg-config xz-utils
install: modules user	## install the modules, the helper, its library and the rest
	@. $(kernel)/env && root=$(DESTDIR)/lib/modules/$$KVER && \
	{ [ "$(DESTDIR)" ] || [ -d $$root/kernel ] || { \
	echo "kernel $$KVER is not installed; try KERNEL=\$$(uname -r)"; exit 1; }; } && \
	install -D -m 644 -t $$root/updates $(BUILD)/kernel/*/*.ko && \
	{ [ "$(DESTDIR)" ] || depmod $$KVER; }
	@$(MAKE) -C user install
	@install -D -m 644 -t $(DESTDIR)$(PREFIX)/include/linux kernel/include/uapi/linux/*.h
	@install -D -m 644 -t $(DESTDIR)$(UDEVDIR) user/60-vfio-multifd.rules
	@for f in Documentation/*.[1-9]; do \
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man$${f##*.} $$f; done

uninstall:	## undo install, for all kernels
	@for module in $(DESTDIR)/lib/modules/*/updates/{vfio_multifd,qemu_vfio_pci}.ko; do \
	[ -e $$module ] || continue; rm $$module; root=$${module%/updates/*}; \
	rmdir --ignore-fail-on-non-empty $$root/updates; \
	[ "$(DESTDIR)" ] || depmod $${root##*/}; done
	@$(MAKE) -C user uninstall
	@rm -f $(DESTDIR)$(PREFIX)/include/linux/vfio_multifd{,_netlink}.h $(DESTDIR)$(UDEVDIR)/60-vfio-multifd.rules
	@for f in Documentation/*.[1-9]; do \
	rm -f $(DESTDIR)$(PREFIX)/share/man/man$${f##*.}/$${f##*/}; done

clean:	## remove what was built; fetched kernels stay
	@rm -rf build .checkpatch*
	@$(MAKE) -C user clean
	@$(MAKE) -C selftests clean

# "deps" comes before what needs it; the makes below still run in parallel.
.NOTPARALLEL:
.PHONY: help deps kernel $(QEMUS) modules $(KERNELS:%=modules-%) sanitized user selftests vm demo bench bench-check bench-full test test-all lint $(checks:%=lint-%) \
	install uninstall clean
