from layerdrop_client.changes import Content, import_changes, package_changes, to_json

BEFORE = Content(
    1, {"a": "1", "b": "1", "c": "1"}, {"a": 10, "b": 20}, 100, 300, {"a": 5.0}, 100.0, "manifest"
)
AFTER = Content(2, {"a": "1", "b": "2", "d": "1"}, {}, 90, 290, {"a": 4.0, "d": 1.0}, None, "zip")


def test_packages_that_differ_are_told_with_how() -> None:
    told = [
        (change.name, change.kind, change.before, change.after) for change in package_changes(BEFORE, AFTER)
    ]
    assert told == [("b", "changed", "1", "2"), ("c", "removed", "1", None), ("d", "added", None, "1")]


def test_import_times_of_both_are_told() -> None:
    assert import_changes(BEFORE, AFTER) == [("a", 5.0, 4.0), ("d", None, 1.0)]


def test_nothing_differs_from_itself() -> None:
    document = to_json(BEFORE, BEFORE)
    assert document["packages"] == []
    assert document["from"] == document["to"]
