"""What the stack's owner looks at and is told: alarms, dashboard, logs, tags, and what outlives the stack."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from typing import Any

import pytest
from stack import inventory

from layerdrop import claims
from layerdrop.end_event import end_event
from local.translate import read_template
from tests.unit.infra.templates import IMAGE, ROOT, translated
from tests.whole import whole

SOURCE: dict[str, Any] = read_template((ROOT / "template.yaml").read_text())
# What AWS publishes by itself, by namespace: metrics, and the dimension that names a resource of which type.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
# https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
PUBLISHED = {
    "AWS/Lambda": ({"Errors", "Throttles", "Duration"}, "FunctionName", "AWS::Lambda::Function"),
    "AWS/States": (
        {"ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut",
         "ExecutionsAborted", "ExecutionTime"},
        "StateMachineArn", "AWS::StepFunctions::StateMachine",
    ),
    "AWS/SQS": ({"ApproximateNumberOfMessagesVisible"}, "QueueName", "AWS::SQS::Queue"),
    "AWS/Events": ({"TriggeredRules", "FailedInvocations"}, "RuleName", "AWS::Events::Rule"),
}  # fmt: skip
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/monitoring-fargate-usage.html
FARGATE = ("ResourceCount", "Service", "Fargate", "Type", "Resource", "Resource", "vCPU", "Class")
USAGE = {(*FARGATE, f"Standard/{kind}") for kind in ("OnDemand", "Spot")}


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = whole()["Resources"]
    return found


@pytest.fixture(scope="module")
def alarms(resources: dict[str, Any]) -> dict[str, Any]:
    return {n: r["Properties"] for n, r in resources.items() if r["Type"] == "AWS::CloudWatch::Alarm"}


@pytest.fixture(scope="module")
def dashboard(resources: dict[str, Any]) -> dict[str, Any]:
    """Its body, with references kept as ${…}."""
    [found] = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::CloudWatch::Dashboard"]
    read: dict[str, Any] = json.loads(found["DashboardBody"]["Fn::Sub"])
    return read


def own_metrics() -> set[str]:
    """The names that the functions count under, by their source."""
    names: set[str] = set()
    for path in (ROOT / "functions/layerdrop").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        listed = [_listed(node) for node in nodes if isinstance(node, ast.For)]
        for node in nodes:
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_metric":
                names |= (
                    _texts(node.args[0]) if not isinstance(node.args[0], ast.Name) else set().union(*listed)
                )
    return names


def _listed(loop: ast.For) -> set[str]:
    """The names in a loop over pairs of names and numbers."""
    pairs = loop.iter.elts if isinstance(loop.iter, ast.Tuple) else []
    first = [pair.elts[0] for pair in pairs if isinstance(pair, ast.Tuple)]
    return {str(name.value) for name in first if isinstance(name, ast.Constant)}


def _texts(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    assert isinstance(node, ast.JoinedStr)  # f"Builds{status.capitalize()}"
    return {f"Builds{status}" for status in ("Succeeded", "Failed", "Superseded")}


def resource_of(reference: Any) -> str:
    """The logical id that a dimension's value leads to."""
    if isinstance(reference, dict):
        ((function, argument),) = reference.items()
        return str(argument[0] if function == "Fn::GetAtt" else argument)
    [name] = re.findall(r"^\$\{(\w+)(?:\.\w+)?\}$", reference)
    return str(name)


def check_metric(
    resources: dict[str, Any], namespace: str, name: str, dimensions: list[tuple[str, Any]]
) -> None:
    if namespace == "Layerdrop":
        assert name in own_metrics()
        assert dimensions in ([("service", "${AWS::StackName}")], [("service", {"Ref": "AWS::StackName"})])
        variables = SOURCE["Globals"]["Function"]["Environment"]["Variables"]
        assert variables["POWERTOOLS_METRICS_NAMESPACE"] == namespace
        assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}
        return
    if namespace == "AWS/Usage":
        assert (name, *(part for dimension in dimensions for part in dimension)) in USAGE
        return
    metrics, dimension, kind = PUBLISHED[namespace]
    assert name in metrics
    [(given, value)] = dimensions
    assert given == dimension
    assert resources[resource_of(value)]["Type"] == kind


# ---------------------------------------------------------------- alarms


def test_there_is_an_alarm_for_each_way_to_fail(alarms: dict[str, Any]) -> None:
    assert set(alarms) == {
        "StartBuildErrorsAlarm", "StartBuildThrottlesAlarm", "BuildsFailedAlarm", "JobsStuckAlarm",
        "UnansweredUploadsAlarm", "UnansweredBuildsAlarm", "NoticesFailedAlarm", "CatalogueFailedAlarm",
        "WatchFailedAlarm",
    }  # fmt: skip


def test_alarms_watch_what_there_is(resources: dict[str, Any], alarms: dict[str, Any]) -> None:
    for alarm in alarms.values():
        watched = [m["MetricStat"]["Metric"] for m in alarm.get("Metrics", []) if "MetricStat" in m] or [
            alarm
        ]
        for metric in watched:
            dimensions = [(each["Name"], each["Value"]) for each in metric["Dimensions"]]
            check_metric(resources, metric["Namespace"], metric["MetricName"], dimensions)


def test_an_expression_names_its_metrics(alarms: dict[str, Any]) -> None:
    for alarm in alarms.values():
        ids = {metric["Id"] for metric in alarm.get("Metrics", [])}
        for metric in alarm.get("Metrics", []):
            assert metric["ReturnData"] == ("Expression" in metric)
            if "Expression" in metric:
                # Filled, for one without a value would take the others' away:
                # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
                filled = re.findall(r"FILL\((\w+), 0\)", metric["Expression"])
                assert (
                    set(filled) == set(re.findall(r"[a-z]\w*", metric["Expression"])) == ids - {metric["Id"]}
                )


def test_alarms_say_what_to_do_mail_it_and_are_silent_without_data(
    alarms: dict[str, Any],
) -> None:
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [{"Ref": "Notifications"}], name
        # Nothing of this is published while all is well.
        assert alarm["TreatMissingData"] == "notBreaching", name
        description = alarm["AlarmDescription"]
        assert 80 < len(description) <= 1024, name
        assert re.search(r"\b(read|look|mend|says? what to do|says why)\b", description, re.IGNORECASE), name


def test_events_and_alarms_may_publish_and_no_condition_keeps_events_out(resources: dict[str, Any]) -> None:
    """EventBridge's statement takes none.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    [policy] = [r for r in resources.values() if r["Type"] == "AWS::SNS::TopicPolicy"]
    statements = policy["Properties"]["PolicyDocument"]["Statement"]
    conditions = {one["Principal"]["Service"]: one.get("Condition") for one in statements}
    assert conditions["events.amazonaws.com"] is None
    assert "alarm:*" in json.dumps(conditions["cloudwatch.amazonaws.com"])
    assert {json.dumps(one["Action"]) for one in statements} == {'"sns:Publish"'}


def test_a_rule_that_cannot_hand_on_what_it_has_is_told_of(resources: dict[str, Any]) -> None:
    """Each that brings something to a topic or a queue, which may refuse it by its policy or by its key's."""
    notices, catalogue = (
        json.dumps(resources[f"{name}FailedAlarm"]["Properties"]["Metrics"])
        for name in ("Notices", "Catalogue")
    )
    told = {
        name: {target["Id"] for target in rule["Properties"]["Targets"]}
        for name, rule in resources.items()
        if rule["Type"] == "AWS::Events::Rule"
    }
    brought = {name: ids for name, ids in told.items() if ids & {"Mail", "Updates"}}
    assert brought.keys() >= {"BuildFailedNotice", "VulnerableNotice", "JobQueueBlocked"}
    for rule, ids in brought.items():
        assert f'"Value": {{"Ref": "{rule}"}}' in (notices if "Mail" in ids else catalogue), rule
    # The others call functions of the stack, by permissions that SAM makes along with them.
    for name in told.keys() - brought.keys():
        [target] = resources[name]["Properties"]["Targets"]
        function = target["Arn"]["Fn::GetAtt"][0]
        assert resources[function]["Type"] == "AWS::Lambda::Function"
        assert f"{name}Permission" in resources


def test_the_image_s_rules_are_watched_as_well() -> None:
    image = translated(IMAGE)["Resources"]
    alarm = image["RulesFailedAlarm"]["Properties"]
    watched = {
        metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"]["Ref"]
        for metric in alarm["Metrics"]
        if "MetricStat" in metric and metric["MetricStat"]["Metric"]["MetricName"] == "FailedInvocations"
    }
    assert watched == {name for name, r in image.items() if r["Type"] == "AWS::Events::Rule"}
    assert alarm["AlarmActions"] == [{"Ref": "NotificationTopicArn"}]
    test_an_expression_names_its_metrics({"RulesFailedAlarm": alarm})
    test_alarms_say_what_to_do_mail_it_and_are_silent_without_data(
        {"RulesFailedAlarm": alarm | {"AlarmActions": [{"Ref": "Notifications"}]}},
    )


HOSTILE = 'a "quoted" \\ {"key": 1},\nand a new line\tor <error> \u2028'
FAILED_BUILD = {
    "input": {"bucket": "b", "key": f"requirements/arm64/{HOSTILE}/requirements.txt", "version_id": "v"},
    "execution": None,
    "layers": [],
    "error": {"code": "NOT_FOUND", "message": HOSTILE, "hint": HOSTILE},
}
# https://docs.aws.amazon.com/batch/latest/userguide/batch-job-queue-blocked-events.html
BLOCKED = {
    "jobQueue": "arn:aws:batch:us-east-1:111122223333:job-queue/q",
    "jobName": HOSTILE,
    "status": "RUNNABLE",
    "statusReason": f"ACTION_REQUIRED - CE(s) associated with the job queue are INVALID: {HOSTILE}",
}


def transformed(transformer: dict[str, Any], detail: dict[str, Any]) -> str:
    """What EventBridge makes of a template: texts as they are, objects as JSON.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
    """
    values = {}
    for name, path in transformer["InputPathsMap"].items():
        value: Any = {"detail": detail}
        for part in path.removeprefix("$.").split("."):
            value = value[part]
        values[name] = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"<(\w+)>", lambda found: values[found[1]], transformer["InputTemplate"])


def test_mails_stay_whole_whatever_is_in_them(resources: dict[str, Any]) -> None:
    """A quote or a new line in a value, which nobody escapes, would break a template of texts."""
    details = {"JobQueueBlocked": BLOCKED}
    rules = {
        name: resource["Properties"]["Targets"]
        for name, resource in resources.items()
        if "InputTransformer" in json.dumps(resource)
    }
    assert rules.keys() == details.keys()
    for name, detail in details.items():
        [transformer] = [target["InputTransformer"] for target in rules[name]]
        mail = json.loads(transformed(transformer, detail))
        assert len(mail["what"]) > 20
        told = [value for value in mail.values() if isinstance(value, dict)]
        for value in told:
            assert value == detail or value in detail.values()
        assert json.dumps(HOSTILE)[1:-1] in json.dumps(told)


def test_a_failed_build_is_told_in_a_form_that_chats_take(resources: dict[str, Any]) -> None:
    """Handed on whole, so that nothing in it can break it; and nothing in it calls anybody.

    https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html
    """
    [target] = resources["BuildFailedNotice"]["Properties"]["Targets"]
    assert target.keys() == {"Id", "Arn", "InputPath"}
    assert target["InputPath"] == "$.detail.notice"
    told = end_event(FAILED_BUILD, "FAILED")["notice"]
    assert (told["version"], told["source"]) == ("1.0", "custom")
    content = told["content"]
    assert all(isinstance(content[name], str) for name in ("textType", "title", "description"))
    assert all(isinstance(step, str) for step in content["nextSteps"])
    assert "quoted" in content["title"]
    assert "NOT_FOUND" in content["description"]
    assert end_event(FAILED_BUILD | {"error": None}, "SUCCEEDED")["notice"] is None


@pytest.mark.attack("uploader: calls everybody in a chat channel")
@pytest.mark.parametrize(
    "text", ["<!channel>", "<@U0123456>", "<#C0123>", "<https://x.example|invoice>", "[x](https://x.example)"]
)
def test_a_message_calls_nobody_and_hides_no_link(text: str) -> None:
    error = {"code": "X", "message": f"{text} numpy<2 a<=1 {text}", "hint": text}
    told = json.dumps(end_event(FAILED_BUILD | {"error": error}, "FAILED")["notice"])
    assert text not in told
    assert "numpy<2 a<=1" in told


def test_sections_that_descriptions_name_are_there(resources: dict[str, Any], alarms: dict[str, Any]) -> None:
    texts = [alarm["AlarmDescription"] for alarm in alarms.values()]
    texts.append(json.dumps(resources["JobQueueBlocked"]))
    pages = re.findall(r"(docs/\w+\.md)", " ".join(texts))
    assert pages
    assert "## When a queue is not empty\n" in (ROOT / "docs/reliability.md").read_text()
    assert "## When builds do not start\n" in (ROOT / "docs/deploy.md").read_text()


def test_blocked_queues_are_heard_of(resources: dict[str, Any]) -> None:
    pattern = resources["JobQueueBlocked"]["Properties"]["EventPattern"]
    assert (pattern["source"], pattern["detail-type"]) == (["aws.batch"], ["Batch Job Queue Blocked"])
    queues = {name for name, resource in resources.items() if resource["Type"] == "AWS::Batch::JobQueue"}
    assert {queue["Ref"] for queue in pattern["detail"]["jobQueue"]} == queues


def test_jobs_that_cannot_start_are_canceled_before_the_state_machine_gives_up(
    resources: dict[str, Any],
) -> None:
    machine = json.loads((ROOT / "statemachine/build_layers.asl.json").read_text())
    waits = machine["States"]["BuildLayers"]["ItemProcessor"]["States"]["BuildLayer"]["TimeoutSeconds"]
    for resource in resources.values():
        if resource["Type"] == "AWS::Batch::JobQueue":
            limits = resource["Properties"]["JobStateTimeLimitActions"]
            assert len({limit["Reason"] for limit in limits}) == 3
            for limit in limits:
                # https://docs.aws.amazon.com/batch/latest/APIReference/API_JobStateTimeLimitAction.html
                assert (limit["State"], limit["Action"]) == ("RUNNABLE", "CANCEL")
                assert 600 <= limit["MaxTimeSeconds"] < waits


# ---------------------------------------------------------------- dashboard


def test_the_dashboard_shows_what_there_is(resources: dict[str, Any], dashboard: dict[str, Any]) -> None:
    shown = set()
    for widget in dashboard["widgets"]:
        for namespace, name, *rest in widget["properties"].get("metrics", []):
            if isinstance(rest[-1], dict):
                rest.pop()
            check_metric(resources, namespace, name, list(zip(rest[::2], rest[1::2], strict=True)))
            shown.add((namespace, name, resource_of(rest[1]) if namespace.startswith("AWS/L") else ""))
    assert {name for namespace, name, _ in shown if namespace == "Layerdrop"} >= {
        "BuildsStarted",
        "LayersPublished",
    }
    functions = {name for name, resource in resources.items() if resource["Type"] == "AWS::Lambda::Function"}
    assert {("AWS/Lambda", "Errors", function) for function in functions} <= shown


def test_the_dashboard_s_widgets_do_not_overlap(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in dashboard["widgets"]:
        x, y = widget["x"], widget["y"]
        cells = {(i, j) for i in range(x, x + widget["width"]) for j in range(y, y + widget["height"])}
        assert not taken & cells
        assert max(i for i, _ in cells) < 24
        taken |= cells


def test_the_dashboard_has_every_alarm_and_function_log(
    resources: dict[str, Any], alarms: dict[str, Any], dashboard: dict[str, Any]
) -> None:
    [shown] = [w["properties"]["alarms"] for w in dashboard["widgets"] if w["type"] == "alarm"]
    always = {name for name in alarms if "Condition" not in resources[name]}
    assert {resource_of(arn) for arn in shown} == always
    [query] = [w["properties"]["query"] for w in dashboard["widgets"] if w["type"] == "log"]
    groups = set(re.findall(r"SOURCE '\$\{(\w+)\}'", query))
    assert groups == {n for n, r in resources.items() if r["Type"] == "AWS::Logs::LogGroup"} - {
        "JobLogs", "BuildLayersLogs"
    }  # fmt: skip


def test_every_name_in_the_dashboard_s_text_is_a_resource(resources: dict[str, Any]) -> None:
    body = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for name in re.findall(r"\$\{([^}]+)\}", body):
        assert name.startswith("AWS::") or name.partition(".")[0] in resources, name


# ---------------------------------------------------------------- logs, tags, and what is kept


@pytest.mark.parametrize("part", ["template.yaml", "infra/image.yaml"])
def test_every_log_ends_some_day(resources: dict[str, Any], part: str) -> None:
    parts = resources if part == "template.yaml" else translated(IMAGE)["Resources"]
    groups = {name for name, resource in parts.items() if resource["Type"] == "AWS::Logs::LogGroup"}
    for name in groups:
        assert parts[name]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    writers = {
        "AWS::Lambda::Function": lambda p: p["LoggingConfig"]["LogGroup"],
        "AWS::CodeBuild::Project": lambda p: p["LogsConfig"]["CloudWatchLogs"]["GroupName"],
        "AWS::Batch::JobDefinition": lambda p: p["ContainerProperties"]["LogConfiguration"]["Options"][
            "awslogs-group"
        ],
        "AWS::StepFunctions::StateMachine": lambda p: p["LoggingConfiguration"]["Destinations"][0][
            "CloudWatchLogsLogGroup"
        ]["LogGroupArn"],
    }
    for name, resource in parts.items():
        if resource["Type"] in writers:
            assert resource_of(writers[resource["Type"]](resource["Properties"])) in groups, name


def test_everything_is_tagged() -> None:
    """CloudFormation puts a stack's tags on all of its resources, nested stacks included."""
    deploy = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]["deploy"]["parameters"]
    assert deploy["tags"] == "project=layerdrop"


def test_jobs_have_the_tags_of_their_definition(resources: dict[str, Any]) -> None:
    for resource in resources.values():
        if resource["Type"] == "AWS::Batch::JobDefinition":
            assert resource["Properties"]["PropagateTags"] is True


def test_make_delete_knows_the_stack_by_the_template_s_words(resources: dict[str, Any]) -> None:
    assert SOURCE["Description"].startswith(inventory.OURS)
    assert {inventory.BUCKET, inventory.STATE_MACHINE, *inventory.QUEUES} <= set(resources)
    assert inventory.CLAIMS == claims.PREFIX


def test_what_cannot_be_made_again_outlives_the_stack(resources: dict[str, Any]) -> None:
    policies = {
        name: (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        for name, resource in {**resources, **translated(IMAGE)["Resources"]}.items()
        if resource["Type"] in ("AWS::S3::Bucket", "AWS::ECR::Repository")
    }
    # Images are made again out of the folder; that is said above the repository.
    assert policies == {
        "Bucket": ("RetainExceptOnCreate", "Retain"),
        "Repository": ("Delete", "Delete"),
    }
