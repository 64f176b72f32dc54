#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# kernel.sh NAME DIR [source] - put a kernel to build and test against into DIR
#
# NAME is one of
#	6.12		Debian 12's stock kernel of that name
#	6.12-debug	built from its source with debug.config
#	7.x-debug	the same of the newest 7.x that Debian has, in any suite
# or the release of an installed kernel with headers, as "uname -r" prints it.
#
# Without "source": the image, its modules and the headers, and DIR/env, which
# both make and sh can read:
#	KVER	release, as in /lib/modules
#	KDIR	what "make -C" takes
#	KIMAGE	what boots
#	KMODULES	the directory of modules, to be seen at /lib/modules/KVER
# With "source": DIR/source, the few files that only the kernel's source has.
#
# What is there and of the version and config that is wanted stays.  Exits with
# 4 if Debian's server has no such kernel or cannot be reached.
#
# Nothing is installed: packages are downloaded, and unpacked below DIR.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
name=$1
dir=$(mkdir -p "$2" && cd "$2" && pwd)
part=${3:-env}
. "$here/suites.sh"

fetch() {
	mkdir -p "$dir/deb"
	(cd "$dir/deb" && apt-get -qq -o APT::Sandbox::User=root download "$@")
}

unpack() {
	for deb in "$dir"/deb/*.deb; do
		dpkg -x "$deb" "$dir/files"
	done
	rm -r "$dir/deb"
}

# What is in $dir/files is the kernel $kver, and its headers are in $headers.
write_env() {
	depmod -b "$dir/files" "$kver"
	cat >"$dir/env.new" <<-END
	KVER=$kver
	KDIR=$headers
	KIMAGE=$dir/files/boot/vmlinuz-$kver
	KMODULES=$dir/files/lib/modules/$kver
	END
}

# The package that linux-image-$1-amd64 stands for
find_image() {
	apt-cache depends "linux-image-$1-amd64" 2>/dev/null |
		sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1
}

debian_env() {
	image=$(find_image "$1")
	[ "$image" ] || {
		echo "linux-image-$1-amd64 is in no package list: Debian 12 has it in bookworm-security" >&2
		exit 1
	}
	kver=${image#linux-image-}
	abi=${kver%-amd64}
	headers=$dir/files/usr/src/linux-headers-$kver

	echo "fetching kernel $kver into $dir" >&2
	rm -rf "$dir/files" "$dir/deb"
	fetch "$image" "linux-headers-$kver" "linux-headers-$abi-common" "linux-kbuild-$abi"
	unpack
	sed -i "s|/usr/src/|$dir/files/usr/src/|" "$headers/Makefile"
	# decompressed, so that the machine under emulation need not do it
	find "$dir/files/lib/modules" -name '*.ko.xz' -print0 | xargs -0 unxz
	write_env
}

# The newest linux-source of a 7.x and its version, from whatever suite has it
find_newest() {
	suites_update bookworm-backports trixie-backports sid experimental || return 0
	package=$(suites apt-cache pkgnames linux-source-7. | sort -V | tail -n 1)
	[ "$package" ] || return 0
	suites apt-cache policy "$package" | sed -n "s/^  Candidate: /$package=/p"
}

fetch_newest() {
	mkdir -p "$dir/deb"
	(cd "$dir/deb" && suites apt-get download "${key%% *}") && rm -rf "$dir/lists"
}

# Builds a kernel and its modules, and keeps what other modules need to be built.
build() {
	tree=$dir/tree
	rm -rf "$tree" "$dir/files"
	mkdir -p "$tree" "$dir/files/boot"
	dpkg --fsys-tarfile "$dir"/deb/*.deb |
		tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
		tar -xJ -C "$tree" --strip-components=1
	rm -r "$dir/deb"
	make="make -s -C $tree -j$(nproc) LOCALVERSION= KBUILD_BUILD_TIMESTAMP=1970-01-01"
	$make KCONFIG_ALLCONFIG="$here/debug.config" allnoconfig
	check_config
	$make bzImage modules
	kver=$($make kernelrelease)
	cp "$tree/arch/x86/boot/bzImage" "$dir/files/boot/vmlinuz-$kver"
	cp "$tree/.config" "$dir/files/boot/config-$kver"
	$make INSTALL_MOD_PATH="$dir/files" DEPMOD=true modules_install
	rm -f "$dir/files/lib/modules/$kver/build"
	headers=$dir/files/usr/src/linux-headers-$kver
	$make run-command KBUILD_RUN_COMMAND="\$(srctree)/scripts/package/install-extmod-build $headers"
	rm -rf "$tree"
	write_env
}

# Kconfig drops silently what it cannot have.
check_config() {
	missing=$(sed '/^# What newer/,$d' "$here/debug.config" | grep '^CONFIG' |
		grep -vxFf "$tree/.config" || :)
	[ ! "$missing" ] || {
		echo "debug.config has what this kernel cannot have:" >&2
		echo "$missing" >&2
		exit 1
	}
}

source_files="*/scripts/checkpatch.pl */scripts/spelling.txt */scripts/const_structs.checkpatch
	*/include/uapi/linux/vfio.h */include/uapi/linux/iommufd.h
	*/tools/testing/selftests/kselftest* */tools/testing/selftests/run_kselftest.sh
	*/tools/net/ynl/* */Documentation/netlink/genetlink.yaml"

debian_source() {
	echo "fetching checkpatch, headers and ynl for the tests of linux-source-$1" >&2
	rm -rf "$dir/deb" "$dir/source.new"
	mkdir -p "$dir/source.new"
	fetch "linux-source-$1"
	dpkg --fsys-tarfile "$dir"/deb/*.deb |
		tar -xO "./usr/src/linux-source-$1.tar.xz" |
		(set -f && exec tar -xJ -C "$dir/source.new" --strip-components=1 --wildcards \
		$source_files)
	# what "make headers" would do with these two
	mkdir -p "$dir/source.new/usr/include"
	mv "$dir/source.new/include/uapi/linux" "$dir/source.new/usr/include"
	sed -i 's/\<__user //' "$dir"/source.new/usr/include/linux/*.h
	rm -r "$dir/deb"
}

installed_env() {
	cat >"$dir/env.new" <<-END
	KVER=$name
	KDIR=/lib/modules/$name/build
	KIMAGE=/boot/vmlinuz-$name
	KMODULES=/lib/modules/$name
	END
}

# Without a version, nothing newer is to be had than what is there and has the
# config.
config_key() {
	config=$(cksum <"$here/debug.config")
	if [ "$1" ]; then
		echo "$1 $config"
	else
		grep " $config\$" "$dir/env.key" 2>/dev/null || echo "? $config"
	fi
}

# What DIR/env is to be made of; empty where nothing tells
key() {
	case $name-$part in
	6.12-env) find_image 6.12 ;;
	6.12-source) echo "$(find_image 6.12) $(echo "$source_files" | cksum)" ;;
	6.12-debug-env) config_key "$(find_image 6.12)" ;;
	7.x-debug-env) config_key "$(find_newest)" ;;
	esac
}

key=$(key)
if [ -e "$dir/$part" ] && { [ ! "$key" ] || [ "$key" = "$(cat "$dir/$part.key" 2>/dev/null)" ]; }; then
	rm -rf "$dir/lists"
	exit 0
fi
rm -f "$dir/$part.key"
case $name-$part in
6.12-env | 6.12-source)
	debian_"$part" "$name"
	;;
6.12-debug-env)
	echo "building kernel $name in $dir, in about 10 minutes" >&2
	fetch linux-source-6.12
	build
	;;
7.x-debug-env)
	fetch_newest || {
		rm -rf "$dir/deb"
		echo "no linux-source-7.x in Debian's backports, sid or experimental, or no server" >&2
		exit 4
	}
	echo "building ${key%% *} in $dir, in about 10 minutes" >&2
	build
	;;
*)
	[ "$part" = env ] && [ -d "/lib/modules/$name/build" ] || {
		echo "no kernel '$name': neither 6.12, 6.12-debug, 7.x-debug nor one with headers in /lib/modules" >&2
		exit 2
	}
	installed_env
	;;
esac
rm -rf "${dir:?}/$part"
mv "$dir/$part.new" "$dir/$part"
[ ! "$key" ] || echo "$key" >"$dir/$part.key"
