"""Adds up what the test runs of some build folders, and some files of TAP lines, report, and prints the closing line.
TAP programs count by their subtests, others by themselves; skipped ones are named."""
import json
import sys

passed = failed = skipped = 0
for folder in sys.argv[1:]:
    if folder.endswith(".tap"):
        with open(folder, encoding="utf-8") as tap:
            rows = tap.read().splitlines()
        skipped += sum("# SKIP" in r for r in rows)
        passed += sum(r.startswith("ok ") and "# SKIP" not in r for r in rows)
        failed += sum(r.startswith("not ok ") for r in rows) + (not rows)
        continue
    with open(folder + "/meson-logs/testlog.json", encoding="utf-8", errors="replace") as log:
        for line in log:
            test = json.loads(line)
            out = test.get("stdout") or ""
            rows = out.splitlines()
            ok = sum(r.startswith("ok ") for r in rows)
            bad = sum(r.startswith("not ok ") for r in rows)
            if test["result"] == "SKIP":
                skipped += 1
                why = [r for r in rows + (test.get("stderr") or "").splitlines() if r.strip()]
                print("skipped: %s %s (%s)" % (folder, test["name"], why[-1] if why else "no reason given"))
            elif test["result"] == "OK":
                passed += max(ok, 1)
            else:
                passed += ok
                failed += max(bad, 1)
print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
sys.exit(1 if failed else 0)
