#!/bin/sh
# From checkout to work: sh packaging/setup.sh start|test|check|build|bench|gen|dev [arguments]. Installs what is missing.
set -eu
umask 022
cd "$(dirname "$0")/.."

say() { echo "fovea: $*" >&2; }
fail() { say "$*"; exit 1; }

verb=${1:-}
case $verb in
  start | test | check | build | bench | gen | dev) shift ;;
  *) fail "usage: sh packaging/setup.sh start|test|check|build|bench|gen|dev [arguments]" ;;
esac

tools=$PWD/node_modules/.fovea-tools
bun=node_modules/.bin/bun
bun_version=$(sed -n 's/^ *"bun": "\([^"]*\)".*/\1/p' package.json)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

# Programs that were unpacked, and Ubuntu's bpftool: its command serves its own kernel alone, the program behind it
# reads any object.
find_programs() {
  for directory in "$tools"/*/usr/bin; do
    if [ -d "$directory" ]; then PATH=$PATH:$directory; fi
  done
  for directory in /usr/lib/linux-tools*/*; do
    if [ -x "$directory/bpftool" ]; then PATH=$directory:$PATH; fi
  done
}

# npm 8 and older run scripts as the owner of the checkout even under sudo; then only the script itself helps.
need_root() {
  case $verb in
    start | test) with_npm="npm $verb" ;;
    *) with_npm="npm run $verb" ;;
  esac
  if [ -n "${SUDO_UID:-}" ]; then with_npm="sh packaging/setup.sh $verb"; fi
  fail "$1 needs root; run: sudo $with_npm"
}

there() {
  case $1 in
    /*) [ -e "$1" ] ;;
    */*) [ -e "$tools/$1" ] || [ -e "$tools/${1%%/*}/usr/${1#*/}" ] ;; # Newer distributions have all below /usr.
    bpftool) bpftool version >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# The packages of packages.txt that this verb needs and this machine lacks, by how they come.
missing() {
  while read -r package need probe how _; do
    case $package in '#'* | '') continue ;; esac
    if [ "$how" != "$1" ] || there "$probe"; then continue; fi
    case $need:$verb in
      build:* | test:test | test:bench) echo "$package" ;;
    esac
  done <packaging/packages.txt
}

# Quiet, unless it fails.
apt() {
  mkdir -p "$tools"
  if DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null >"$tools/apt.log" 2>&1; then return; fi
  cat "$tools/apt.log" >&2
  return 1
}

# Runs a command that needs the lists of packages, once more with fresh ones when it fails.
with_lists() {
  if "$@"; then return; fi
  apt update || fail "apt-get update failed"
  "$@" || fail "failed: $*"
}

need_lists() {
  if ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then apt update || fail "apt-get update failed"; fi
}

offered() { LC_ALL=C apt-cache policy "$1" | grep -q 'Candidate: [^(]'; }

# a|b: the first that this distribution has.
existing() {
  for choice in "$@"; do
    for name in $(echo "$choice" | tr '|' ' '); do
      if offered "$name"; then break; fi
    done
    echo "$name"
  done
}

# unpack NAME [PACKAGE]
unpack() {
  target=$tools/$1
  scratch=$(mktemp -d) # apt gives downloads to a user of its own, who may be unable to enter the checkout.
  rm -rf "$target" "$target.part"
  (cd "$scratch" && apt -o APT::Sandbox::User=root download "${2:-$1}") &&
    dpkg-deb -x "$scratch"/*.deb "$target.part" &&
    mv "$target.part" "$target"
  rm -rf "$scratch"
  [ -d "$target" ]
}

# A kernel's name without a version is a package that depends on the newest one and holds nothing itself.
unpack_kernel() {
  package=$(LC_ALL=C apt-cache depends "$1" | sed -n '/Depends: /{s/.*Depends: *//p;q;}')
  [ -n "$package" ] && unpack "$1" "$package"
}

names() { tr '\n' ' ' | sed 's/ $//'; }

# shellcheck disable=SC2086 # Names are words.
install_packages() {
  install=$(missing install | names)
  unpack=$(missing unpack | names)
  all=$(echo "$install" "$unpack" | sed 's/^ //; s/ $//')
  if [ -z "$all" ]; then return; fi
  if ! command -v apt-get >/dev/null; then
    fail "not a Debian or Ubuntu: install what your distribution calls $all and run this again"
  fi
  if [ "$(id -u)" != 0 ]; then need_root "installing $all"; fi
  need_lists
  install=$(existing $install | names)
  unpack=$(existing $unpack | sort -u | names)
  say "installing packages of this distribution, a minute or two: $install $unpack"
  if [ -n "$install" ]; then with_lists apt install -y --no-install-recommends $install; fi
  for package in $unpack; do with_lists unpack "$package"; done
  find_programs
  left=$({ missing install; missing unpack; } | names)
  if [ -n "$left" ]; then fail "installed, but what shows them is not there: $left (see packaging/packages.txt)"; fi
}

# Kernels that a test boots in an emulator. Where there is none by that name, the test says so and goes without.
unpack_kernels() {
  if [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null; then return; fi
  for name in $(missing kernel); do
    (need_lists) || return 0
    if ! offered "$name"; then continue; fi
    say "unpacking $name, which a test boots in an emulator"
    (with_lists unpack_kernel "$name") || say "without $name: the test that boots it is skipped"
  done
}

# fetch NAME DIRECTORY: a package of npm that holds one program of Bun, its content checked against bun.lock.
fetch() {
  command -v npm >/dev/null || fail "npm is missing: install the package npm and run this again"
  say "fetching $1 $bun_version from npm"
  rm -rf "$2" "$2.part"
  mkdir -p "$2.part"
  npm pack --loglevel=error --pack-destination "$2.part" "$1@$bun_version" >/dev/null
  # shellcheck disable=SC2016 # The script is JavaScript.
  node -e '
    const { createHash } = require("crypto"), { readFileSync } = require("fs");
    const [archive, name] = process.argv.slice(1);
    const line = readFileSync("bun.lock", "utf8").split("\n").find((text) => text.includes(`["${name}"`));
    const digest = "sha512-" + createHash("sha512").update(readFileSync(archive)).digest("base64");
    if (!line || !line.includes(digest)) {
      console.error(`fovea: ${name} from npm is not the one that bun.lock names`);
      process.exit(1);
    }' "$2.part"/*.tgz "$1@$bun_version"
  tar -xzf "$2.part"/*.tgz -C "$2.part"
  rm "$2.part"/*.tgz
  mv "$2.part" "$2"
}

fetch_bun() {
  case $(uname -m) in
    x86_64) arch=x64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) fail "Bun has no build for $(uname -m)" ;;
  esac
  fetch "@oven/bun-linux-$arch" "$tools/bun"
  bun=$tools/bun/package/bin/bun
}

# The program that fovea.exe is made from, and that runs the tests of windows/. An install leaves it out: it is of
# another system.
fetch_bun_windows() {
  if grep -qs "\"version\": \"$bun_version\"" "$tools/bun-windows/package/package.json"; then return; fi
  fetch @oven/bun-windows-x64 "$tools/bun-windows"
}

install_modules() {
  if [ "$($bun --version 2>/dev/null)" != "$bun_version" ]; then
    fetch_bun
    say "installing the packages of bun.lock from npm"
  fi
  "$bun" install --frozen-lockfile --silent
  bun=node_modules/.bin/bun
  rm -rf "$tools/bun"
}

for directory in node_modules dist; do
  if [ -e $directory ] && [ ! -w $directory ]; then need_root "writing $directory, which root owns,"; fi
done
case $verb in
  start | test | bench) if [ "$(id -u)" != 0 ]; then need_root "loading eBPF"; fi ;;
esac
find_programs
install_packages
unpack_kernels
install_modules
case $verb in
  build | test | bench) fetch_bun_windows ;;
esac

case $verb in
  build) exec "$bun" packaging/build.ts "$@" ;;
  gen)
    "$bun" packaging/build.ts objects
    "$bun" bpf/gen.ts dist/bpf/contract.bpf.o >dist/contract.gen.ts
    mv dist/contract.gen.ts bpf/contract.gen.ts
    command -v protoc >/dev/null || fail "protoc is missing: install protobuf-compiler (npm test does) and run this again"
    protoc --plugin=protoc-gen-es=node_modules/.bin/protoc-gen-es \
      --es_out=dist --es_opt=target=ts -Isrc/sinks otlp.proto
    mv dist/otlp_pb.ts src/sinks/otlp.gen.ts
    ;;
  start) "$bun" packaging/build.ts linux && exec dist/fovea run --data-dir .fovea "$@" ;;
  dev)
    "$bun" packaging/build.ts objects
    exec "$bun" --watch src/main.ts run --data-dir .fovea --replay-loop --replay "${1:-test/fixtures/replay/node.ndjson}"
    ;;
  check) "$bun" packaging/build.ts objects && exec "$bun" test/run.ts --quick "$@" ;;
  test)
    # The last line of a test run is the same whatever failed.
    "$bun" packaging/build.ts || { echo "0 passed, 1 failed"; exit 1; }
    exec "$bun" test/run.ts "$@"
    ;;
  bench) "$bun" packaging/build.ts && exec "$bun" test/bench/run.ts "$@" ;;
esac
