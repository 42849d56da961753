"""The account's default event bus, by which others hear of what was done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_events import EventBridgeClient

SOURCE: Final = "layerdrop"


@dataclass(frozen=True)
class Bus:
    """Sends events of one kind, its `detail_type`."""

    events: EventBridgeClient
    detail_type: str

    def send(self, detail: Mapping[str, Any]) -> None:
        """Send an event.

        Raises:
            RuntimeError: EventBridge did not take it.
        """
        response = self.events.put_events(
            Entries=[{"Source": SOURCE, "DetailType": self.detail_type, "Detail": json.dumps(detail)}]
        )
        if response["FailedEntryCount"]:
            raise RuntimeError(f"EventBridge did not take the event: {response['Entries'][0]}")
