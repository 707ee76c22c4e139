"""`make audit-deps`: known vulnerabilities of what is installed, looked up on PyPI by pip-audit.

Ends with 1 where there are some, and with 2 where nothing could be looked up: pip-audit itself
calls a package that its service does not know (say, a mirror without advisories) unharmed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig

AUDIT = "pip-audit==2.10.1"


def main(uv: str, folder: str) -> int:
    words = [uv, "tool", "run", AUDIT, "--path", folder, "--skip-editable"]
    done = subprocess.run(
        [*words, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"the advisory service could not be asked, so nothing is known: {why}")
        return 2
    unknown = [one["name"] for one in found if "skip_reason" in one]
    for one in found:
        for hole in one.get("vulns", ()):
            fixed = ", ".join(hole["fix_versions"]) or "no version yet"
            print(f"{one['name']} {one['version']}: {hole['id']}, mended by {fixed}")
    if len(unknown) == len(found):
        print(f"the advisory service knows none of {len(found)} packages, so nothing is known")
        return 2
    if unknown:
        print(f"not looked up, {len(unknown)} of {len(found)}: {', '.join(unknown)}")
    harmed = any(one.get("vulns") for one in found)
    print("" if harmed else f"no known vulnerability in {len(found) - len(unknown)} packages")
    return int(harmed)


if __name__ == "__main__":
    site = sys.argv[2] if len(sys.argv) > 2 else sysconfig.get_path("purelib")
    sys.exit(main(sys.argv[1], site))
