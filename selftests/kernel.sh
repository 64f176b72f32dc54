#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# kernel.sh NAME DIR [source] - put a kernel to build and test against into DIR
#
# NAME is 6.12, Debian 12's stock kernel of that name, or the release of an
# installed kernel with headers, as "uname -r" prints it.
#
# Without "source": the image, its modules and the headers, and DIR/env, which
# both make and sh can read:
#	KVER	release, as in /lib/modules
#	KDIR	what "make -C" takes
#	KIMAGE	what boots
#	KMODULES	the directory of modules, to be seen at /lib/modules/KVER
# With "source": DIR/source, the few files that only the kernel's source has.
#
# Nothing is installed: packages are downloaded, and unpacked below DIR.
set -eu

name=$1
dir=$(mkdir -p "$2" && cd "$2" && pwd)
part=${3:-env}

fetch() {
	mkdir -p "$dir/deb"
	(cd "$dir/deb" && apt-get -qq -o APT::Sandbox::User=root download "$@")
}

unpack() {
	for deb in "$dir"/deb/*.deb; do
		dpkg -x "$deb" "$dir/root"
	done
	rm -r "$dir/deb"
}

debian_env() {
	image=$(apt-cache depends "linux-image-$1-amd64" |
		sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
	[ "$image" ] || {
		echo "linux-image-$1-amd64 is in no package list: Debian 12 has it in bookworm-security" >&2
		exit 1
	}
	kver=${image#linux-image-}
	abi=${kver%-amd64}
	headers=$dir/root/usr/src/linux-headers-$kver

	echo "fetching kernel $kver into $dir" >&2
	rm -rf "$dir/root" "$dir/deb"
	fetch "$image" "linux-headers-$kver" "linux-headers-$abi-common" "linux-kbuild-$abi"
	unpack
	sed -i "s|/usr/src/|$dir/root/usr/src/|" "$headers/Makefile"
	# decompressed, so that the machine under emulation need not do it
	find "$dir/root/lib/modules" -name '*.ko.xz' -print0 | xargs -0 unxz
	depmod -b "$dir/root" "$kver"

	cat >"$dir/env.new" <<-END
	KVER=$kver
	KDIR=$headers
	KIMAGE=$dir/root/boot/vmlinuz-$kver
	KMODULES=$dir/root/lib/modules/$kver
	END
}

debian_source() {
	echo "fetching checkpatch and the kselftest headers of linux-source-$1" >&2
	rm -rf "$dir/deb" "$dir/source.new"
	mkdir -p "$dir/source.new"
	fetch "linux-source-$1"
	dpkg --fsys-tarfile "$dir"/deb/*.deb |
		tar -xO "./usr/src/linux-source-$1.tar.xz" |
		tar -xJ -C "$dir/source.new" --strip-components=1 --wildcards \
		'*/scripts/checkpatch.pl' '*/scripts/spelling.txt' \
		'*/scripts/const_structs.checkpatch' \
		'*/tools/testing/selftests/kselftest*' \
		'*/tools/testing/selftests/run_kselftest.sh'
	rm -r "$dir/deb"
}

installed_env() {
	cat >"$dir/env.new" <<-END
	KVER=$1
	KDIR=/lib/modules/$1/build
	KIMAGE=/boot/vmlinuz-$1
	KMODULES=/lib/modules/$1
	END
}

case $name in
6.12)
	debian_"$part" "$name"
	;;
*)
	[ "$part" = env ] && [ -d "/lib/modules/$name/build" ] || {
		echo "no kernel '$name': neither 6.12 nor one with headers in /lib/modules" >&2
		exit 2
	}
	installed_env "$name"
	;;
esac
mv -T "$dir/$part.new" "$dir/$part"
