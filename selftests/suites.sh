# SPDX-License-Identifier: GPL-2.0-only
#
# To be sourced: packages of other suites of Debian than the machine's own, from
# the server that it uses.  What is known of them stays in $dir, and nothing is
# installed.

# suites_update SUITE...: fails where there is no server
suites_update() {
	mkdir -p "$dir/lists/partial"
	mirror=$(apt-get indextargets --format '$(SITE)' | grep -m 1 'debian/*$') || return
	for suite; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
	done >"$dir/suites.list"
	suites apt-get update >&2
}

# suites COMMAND...: apt-get or apt-cache, for these suites
suites() {
	command=$1
	shift
	"$command" -qq -o "Dir::Etc::sourcelist=$dir/suites.list" -o Dir::Etc::sourceparts=- \
		-o "Dir::State::lists=$dir/lists" -o APT::Sandbox::User=root \
		-o APT::Update::Error-Mode=any -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}
