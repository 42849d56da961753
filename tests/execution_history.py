"""Made-up histories of executions."""

from datetime import UTC, datetime


class History:
    """Events as GetExecutionHistory gives them."""

    def __init__(self) -> None:
        self.events: list[dict] = []

    def add(self, kind: str, previous: int | None = None, **details: object) -> int:
        number = len(self.events) + 1
        self.events.append(
            {
                "id": number,
                "previousEventId": number - 1 if previous is None else previous,
                "type": kind,
                "timestamp": datetime.fromtimestamp(number, UTC),
            }
            | details
        )
        return number

    def enter(self, name: str, previous: int | None = None, given: str = "{}") -> int:
        kind = "MapStateEntered" if name == "BuildLayers" else "TaskStateEntered"
        return self.add(kind, previous, stateEnteredEventDetails={"name": name, "input": given})

    def leave(self, name: str, previous: int | None = None) -> int:
        return self.add("TaskStateExited", previous, stateExitedEventDetails={"name": name})
