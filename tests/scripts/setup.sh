#!/usr/bin/env bash
# scripts/setup must install exactly what is missing, and stay quiet where nothing is. The package tools are played by
# two short scripts, so that nothing is installed by this test.
set -euo pipefail
setup=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/scripts/setup
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/dpkg-query" <<'END'
#!/usr/bin/env bash
[[ " $MISSING " == *" ${!#} "* ]] && exit 1
printf installed
END
cat >"$folder/apt-get" <<'END'
#!/usr/bin/env bash
echo "$*" >>"$CALLS"
[[ $* != *"$BROKEN"* ]] || { echo "E: no such package"; exit 100; }
END
printf '#!/usr/bin/env bash\nexec "$@"\n' >"$folder/sudo"
chmod +x "$folder"/*
export PATH=$folder:$PATH CALLS=$folder/calls MISSING="" BROKEN="nothing is broken"

fail() { echo "$1"; exit 1; }

output=$("$setup")
[[ $(wc -l <<<"$output") == 1 ]] || fail "nothing was missing, and it said: $output"
[[ ! -e $CALLS ]] || fail "nothing was missing, and it called: $(cat "$CALLS")"

MISSING="libfmt-dev ccache" "$setup" >/dev/null
tail -n 1 "$CALLS" | grep -q 'install .* ccache libfmt-dev$' || fail "ccache and libfmt-dev were missing, and it called: $(cat "$CALLS")"

if output=$(MISSING="ccache" BROKEN="install" "$setup" 2>&1); then fail "apt-get failed, and setup did not"; fi
[[ $output == *"E: no such package"* ]] || fail "it hid what apt-get said: $output"
