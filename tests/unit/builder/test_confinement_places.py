"""Where a process can have no root of its own, the paths that it was to have there lead to the machine's."""

from layer_builder.ground import confinement_worker

RULES = {
    "places": {"/opt": "/cache/layer", "/tmp": "/cache/tmp", "/var/task": "/cache/code"},
    "read": ["/usr"],
    "scratch": {"/tmp": 1, "/other": 2},
    "command": [
        "/usr/bin/python3",
        "/var/task/run.py",
        "arn:aws:lambda:us-east-1:1:function:opt",
        "/optional",
    ],
    "environment": {
        "PYTHONPATH": "/opt/python:/opt",
        "PATH": "/usr/bin:/opt/bin",
        "HOME": "/home/nobody",
        "TMPDIR": "/tmp",
        "URL": "http://example.com/opt",
    },
    "cwd": "/var/task",
}


def test_paths_lead_to_where_things_lie() -> None:
    translated = confinement_worker._translated(RULES)
    assert translated["command"] == [
        "/usr/bin/python3",
        "/cache/code/run.py",
        "arn:aws:lambda:us-east-1:1:function:opt",
        "/optional",
    ]
    assert translated["environment"] == {
        "PYTHONPATH": "/cache/layer/python:/cache/layer",
        "PATH": "/usr/bin:/cache/layer/bin",
        "HOME": "/home/nobody",
        "TMPDIR": "/cache/tmp",
        "URL": "http://example.com/opt",
    }
    assert translated["cwd"] == "/cache/code"


def test_what_may_be_read_and_written_is_what_lies_there() -> None:
    translated = confinement_worker._translated(RULES)
    assert translated["read"] == ["/usr", "/cache/layer", "/cache/code"]
    assert translated["scratch"] == {"/cache/tmp": 1, "/other": 2}
    assert translated["places"] == {}


def test_without_places_nothing_changes() -> None:
    rules = RULES | {"places": {}}
    assert confinement_worker._translated(rules) == rules
