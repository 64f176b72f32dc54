#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# stock_qemu.sh NAME DIR - put a stock QEMU into DIR, as DIR/qemu
#
# NAME is one of
#	qemu-10.0	that of Debian 12's backports
#	qemu-newest	that of Debian unstable
#
# It comes with all the libraries that it needs, runs with nothing else of its
# suite, and is not installed.  What is there and of the wanted version stays.
# Exits with 4 if Debian's server does not have it or cannot be reached.
set -eu

dir=$(mkdir -p "$2" && cd "$2" && pwd)
. "$(dirname "$0")/suites.sh"

case $1 in
qemu-10.0) list="bookworm bookworm-backports" suite=bookworm-backports ;;
qemu-newest) list=sid suite=sid ;;
*)
	echo "no QEMU '$1': neither qemu-10.0 nor qemu-newest" >&2
	exit 2
	;;
esac

# As if nothing were installed
on_nothing() {
	: >"$dir/status"
	suites apt-get -y --no-install-recommends -t "$suite" -o "Dir::State::status=$dir/status" \
		-o "Dir::Cache::archives=$dir/deb" "$@" qemu-system-x86
}

version=
if suites_update $list; then
	version=$(on_nothing -s install | sed -n 's/^Inst qemu-system-x86 (\([^ ]*\) .*/\1/p')
fi
if [ -x "$dir/qemu" ] && { [ ! "$version" ] || [ "$version" = "$(cat "$dir/version")" ]; }; then
	rm -rf "$dir/lists"
	exit 0
fi
[ "$version" ] || {
	echo "no qemu-system-x86 in Debian's $suite, or no server" >&2
	exit 4
}

echo "fetching QEMU $version into $dir" >&2
rm -rf "$dir/deb"
mkdir -p "$dir/deb/partial"
on_nothing --download-only install >&2 || {
	rm -rf "$dir/deb"
	[ ! -x "$dir/qemu" ] || exit 0
	echo "QEMU $version could not be fetched from Debian's $suite" >&2
	exit 4
}
rm -rf "$dir/files" "$dir/qemu"
# a library's place is the same by either of its names
for link in bin sbin lib lib64; do
	mkdir -p "$dir/files/usr/$link"
	ln -s usr/$link "$dir/files/$link"
done
for deb in "$dir"/deb/*.deb; do
	dpkg --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$dir/files"
done
rm -rf "$dir"/lock* "$dir/deb" "$dir/lists" "$dir/status" "${dir:?}/files/usr/share/doc"
cat >"$dir/qemu" <<'END'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/files
lib=$root/usr/lib/x86_64-linux-gnu
export QEMU_MODULE_DIR="$lib/qemu"
exec "$root/lib64/ld-linux-x86-64.so.2" --library-path "$lib" "$root/usr/bin/qemu-system-x86_64" \
	-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
END
chmod +x "$dir/qemu"
echo "$version" >"$dir/version"
