"""The child that speaks to chat services and mail servers: one order on standard input, the answer is the exit code.

0: done. 1: the service did not take it. 3: apprise is not installed. 4: no target that apprise knows. 5: out of reach.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from skerry_fleet import reach


def main() -> int:
    """Carry out one order."""
    order: dict[str, Any] = json.load(sys.stdin)
    try:
        import apprise
    except ImportError:
        return 3
    # What a device says must be text wherever it arrives: nothing in it is read as an address, a file or mark-up.
    asset = apprise.AppriseAsset(app_id="Skerry", app_desc="fleet manager", app_url="", interpret_escapes=False)
    services = apprise.Apprise(asset=asset)
    if not services.add(order["target"]):
        return 4
    if order.get("check"):
        return 0
    refused: list[bool] = []
    reach.confine(order["reach"], lambda: refused.append(True))
    told = services.notify(
        body=order["body"] + f"\n\n{order['event']}", title=order["title"], body_format=apprise.NotifyFormat.TEXT
    )
    if told:
        return 0
    return 5 if refused else 1


if __name__ == "__main__":
    sys.exit(main())
