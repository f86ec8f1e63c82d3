# Counting for the lints; each ends with `lint_done`.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
lint_passed=0 lint_failed=0 lint_skipped=0
pass() { lint_passed=$((lint_passed + 1)); }
fail() { lint_failed=$((lint_failed + 1)); echo "FAIL $*"; }
skip() { lint_skipped=$((lint_skipped + 1)); echo "SKIP $*"; }
lint_done() {
	echo "$lint_passed passed, $lint_failed failed, $lint_skipped skipped"
	[ "$lint_failed" -eq 0 ]
	exit
}
# Files of the repository that match the patterns, whether committed or not yet.
files() { git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while read -r f; do [ -f "$f" ] && echo "$f"; done; }
