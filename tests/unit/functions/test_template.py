"""The template, translated as AWS would, and judged by what others publish of its services."""

import ast
import copy
import fnmatch
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cfnlint
import cfnlint.api
import pytest

from layer_builder import environment as builder_environment
from layer_builder.ground import cooldown
from layerdrop import environment
from layerdrop.input_key import PREFIX, SUFFIXES
from layerdrop.layer_name import layer_name
from layerdrop.locks import STAGED
from layerdrop.shelves import CHOICES
from layerdrop.target import ARCHITECTURES, LAYERS, RUNTIMES
from local.translate import read_template
from tests.whole import parts, whole

ROOT = Path(__file__).parents[3]
SOURCE: dict[str, Any] = read_template((ROOT / "template.yaml").read_text())
PARAMETERS: dict[str, Any] = SOURCE["Parameters"]
FUNCTIONS = (
    "StartBuild",
    "PlanBuild",
    "ResolveLayer",
    "PublishLayer",
    "TryLayer",
    "ReleaseLayer",
    "WriteManifest",
)
# What can be allowed, on what: cfn-lint's copy of AWS's Service Authorization Reference.
AUTHORIZATION: dict[str, Any] = json.loads(
    (Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json").read_text()
)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    """All of the stack, nested templates included."""
    return whole()


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"]
    return found


def of_type(resources: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def words(value: Any) -> str:
    """A property's text, with what is filled in later kept as ${…}."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Fn::If":  # the most that a parameter can bring about
        return words(argument[1])
    if function == "Ref":
        return f"${{{argument}}}"
    if function == "Fn::GetAtt":
        return f"${{{'.'.join(listed(argument))}}}"
    if function == "Fn::Sub":
        return str(argument)
    raise AssertionError(f"{function} in a policy")


def statements(role: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for policy in role.get("Policies", ()):
        for statement in policy["PolicyDocument"]["Statement"]:
            # The most that a parameter can bring about.
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def grants(resources: Mapping[str, Any], role: str) -> set[tuple[str, str]]:
    return {
        (action, words(resource))
        for statement in statements(resources[role]["Properties"])
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


# ------------------------------------------------------------------------------------------------ as a whole


def complaints(template: Any) -> list[str]:
    return [
        f"{match.rule.id} {match.message}"
        for match in cfnlint.api.lint(json.dumps(template), regions=["us-east-1"])
    ]


@pytest.mark.long  # make lint says the same
@pytest.mark.parametrize("part", ["", *parts().nested])
def test_linter_finds_nothing_in_the_translated_templates(part: str) -> None:
    assert complaints(parts().nested[part] if part else parts().root) == []


def test_linter_finds_nothing_in_all_of_them_together(template: dict[str, Any]) -> None:
    """Types of values are known across templates only when these are one."""
    # It splits SubnetIds' empty default, with which the condition takes the other way.
    assert {complaint for complaint in complaints(template) if not complaint.startswith("W1033")} == set()


@pytest.mark.long
@pytest.mark.parametrize(
    "needed", [{"Ref": "BuildLayers"}, {"Fn::GetAtt": ["Watching", "Outputs.Dashboard"]}]
)
def test_linter_would_find_the_cycle_that_this_template_avoids(needed: Mapping[str, Any]) -> None:
    """The bucket waits for StartBuild's permission: nothing that StartBuild needs may need the bucket."""
    broken = copy.deepcopy(dict(parts().root))
    variables = broken["Resources"]["StartBuild"]["Properties"]["Environment"]["Variables"]
    variables["STATE_MACHINE_ARN"] = needed
    assert any(complaint.startswith("E3004") for complaint in complaints(broken))


def test_parameters_are_explained_and_grouped_once() -> None:
    interface = SOURCE["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(PARAMETERS)
    assert set(interface["ParameterLabels"]) == set(PARAMETERS)
    for name, parameter in PARAMETERS.items():
        assert parameter["Description"].endswith("."), name


def test_nothing_must_be_given() -> None:
    assert [name for name, parameter in PARAMETERS.items() if "Default" not in parameter] == []


def test_the_console_s_runtimes_are_the_code_s() -> None:
    assert tuple(PARAMETERS["DefaultRuntime"]["AllowedValues"]) == RUNTIMES


# ------------------------------------------------------------------------------------------------ roles


def test_every_statement_is_named_and_written_out(resources: dict[str, Any]) -> None:
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role, name
        sids = [statement["Sid"] for statement in statements(role)]
        assert len(set(sids)) == len(sids), name
        for statement in statements(role):
            # What denies only takes away from what stands before it.
            allows = statement["Sid"] != "MoveNoPins"
            assert statement["Effect"] == ("Allow" if allows else "Deny"), (name, statement["Sid"])
            assert not any("*" in action for action in listed(statement["Action"])), (name, statement["Sid"])


def resource_types(action: str) -> list[str]:
    service, _, operation = action.partition(":")
    found: list[str] = AUTHORIZATION[service]["Actions"][operation.lower()].get("Resources", [])
    return listed(found)


def test_everything_is_allowed_where_aws_lets_one_say_and_nowhere_else(resources: dict[str, Any]) -> None:
    """`*` only for actions that know no resources; and those only on `*`, or they would never be allowed."""
    seen = 0
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        for statement in statements(role):
            everything = (
                words(statement["Resource"]) == "*" if not isinstance(statement["Resource"], list) else False
            )
            for action in listed(statement["Action"]):
                seen += 1
                assert bool(resource_types(action)) != everything, (name, action)
    assert seen > 30


def test_resources_are_of_the_kind_that_the_action_is_for(resources: dict[str, Any]) -> None:
    for role in of_type(resources, "AWS::IAM::Role"):
        for action, resource in grants(resources, role):
            if not resource.startswith("arn:"):
                continue
            service = action.partition(":")[0]
            kinds = [AUTHORIZATION[service]["Resources"][kind.lower()] for kind in resource_types(action)]
            formats = [
                re.sub(r"\\?\$\{[^}]+\}", "[^:]*", form) for kind in kinds for form in kind["ARNFormats"]
            ]
            filled = re.sub(r"\$\{[^}]+\}", "x", resource)
            assert any(re.fullmatch(form, filled) for form in formats), (role, action, resource, formats)


def test_only_its_own_service_takes_a_role(resources: dict[str, Any]) -> None:
    def principal(role: str) -> set[str]:
        (statement,) = resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Action"] == "sts:AssumeRole"
        return set(listed(statement["Principal"]["Service"]))

    for function in FUNCTIONS:
        assert principal(f"{function}Role") == {"lambda.amazonaws.com"}
        assert words(resources[function]["Properties"]["Role"]) == f"${{{function}Role.Arn}}"
    assert principal("BuildLayersRole") == {"states.amazonaws.com"}
    for job in ("JobRole", "SourceJobRole", "JobExecutionRole"):
        assert principal(job) == {"ecs-tasks.amazonaws.com"}


@pytest.mark.parametrize(
    ("role", "found"), [("JobRole", "layers/*"), ("SourceJobRole", "layers/*/*")], ids=["wheels", "sources"]
)
def test_a_build_can_read_its_input_leave_its_results_and_nothing_else(
    resources: dict[str, Any], role: str, found: str
) -> None:
    """It may run code that a requirements file brings along."""
    # Conditional, and of one secret, one repository and one key: what a private index and one's own key take.
    given = ("secretsmanager:", "codeartifact:", "sts:", "kms:")
    granted = {grant for grant in grants(resources, role) if not grant[0].startswith(given)}
    assert granted == {
        ("s3:GetObjectVersion", "${Bucket.Arn}/requirements/*"),
        ("s3:GetObject", "${Bucket.Arn}/plans/*"),
        ("s3:GetObject", "${Bucket.Arn}/" + found),
        ("s3:PutObject", "${Bucket.Arn}/builds/*"),
    }


def test_only_one_part_writes_what_others_use(resources: dict[str, Any]) -> None:
    writers = {
        role
        for role in of_type(resources, "AWS::IAM::Role")
        for action, resource in grants(resources, role)
        if action.startswith("s3:Put") and fnmatch.fnmatch("${Bucket.Arn}/layers/0.zip", resource)
    }
    assert writers == {"PublishLayerRole"}


def test_without_builds_from_source_there_is_nothing_for_them(template: dict[str, Any]) -> None:
    """Neither role nor definitions, nor a word of them elsewhere that counts."""
    conditional = {
        name for name, one in template["Resources"].items() if one.get("Condition") == "BuildSources"
    }
    assert conditional == {"SourceJobRole", "Arm64SourceJobDefinition", "X8664SourceJobDefinition"}
    assert PARAMETERS["SourceBuilds"]["AllowedValues"] == ["ENABLED", "DISABLED"]
    roles = {
        name: definition["ContainerProperties"]["JobRoleArn"]["Fn::GetAtt"][0]
        for name, definition in of_type(template["Resources"], "AWS::Batch::JobDefinition").items()
    }
    assert roles == {
        "Arm64JobDefinition": "JobRole",
        "X8664JobDefinition": "JobRole",
        "Arm64SourceJobDefinition": "SourceJobRole",
        "X8664SourceJobDefinition": "SourceJobRole",
    }


def test_only_one_part_publishes(resources: dict[str, Any]) -> None:
    for role in of_type(resources, "AWS::IAM::Role"):
        for action, _ in grants(resources, role):
            service, _, operation = action.partition(":")
            changes = not operation.startswith(("Get", "List", "Describe", "Invoke"))
            if service in ("lambda", "ssm") and changes:
                assert role in CHANGERS[action], action
            deletes = operation.startswith(("Delete", "Remove")) and service != "logs"
            assert not deletes or role in CHANGERS[action], action


CHANGERS = {
    "lambda:PublishLayerVersion": {"PublishLayerRole"},
    "lambda:DeleteLayerVersion": {"PublishLayerRole", "ReleaseLayerRole"},
    "lambda:AddLayerVersionPermission": {"ReleaseLayerRole"},
    "ssm:PutParameter": {"ReleaseLayerRole"},
    "ssm:DeleteParameter": {"ReleaseLayerRole"},
    # Of functions that try layers only: see below.
    "lambda:CreateFunction": {"TryLayerRole"},
    "lambda:DeleteFunction": {"TryLayerRole"},
    # What the catalogue says of a version, with the version.
    "s3:DeleteObject": {"ReleaseLayerRole"},
    # Lambda takes messages from the queue in its name.
    "sqs:DeleteMessage": {"UpdateCatalogueRole"},
}


def test_functions_that_try_layers_are_called_as_no_other_is(resources: dict[str, Any]) -> None:
    """And they run with a role that may do nothing: there is code of packages in them."""
    role = grants(resources, "TryLayerRole")
    prefix = words(resources["TryLayer"]["Properties"]["Environment"]["Variables"]["TRIAL_PREFIX"])
    assert prefix == "${AWS::StackName}-try-"
    where = {
        resource
        for action, resource in role
        if re.fullmatch(r"lambda:\w+Function\w*", action) and action != "lambda:ListFunctions"
    }
    assert {resource.rpartition(":function:")[2] for resource in where} == {f"{prefix}*"}
    given = resources["TryLayer"]["Properties"]["Environment"]["Variables"]["TRIAL_ROLE_ARN"]
    assert {resource for action, resource in role if action == "iam:PassRole"} == {words(given)}
    (passing,) = (
        one for one in statements(resources["TryLayerRole"]["Properties"]) if one["Action"] == "iam:PassRole"
    )
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    given = set(resources["TrialRole"]["Properties"])
    assert given == {"AssumeRolePolicyDocument", "Path", "PermissionsBoundary"}, "no right at all"


@pytest.mark.parametrize("role", sorted(CHANGERS["lambda:DeleteLayerVersion"]))
def test_versions_are_deleted_only_of_layers_that_are_called_as_ours(
    resources: dict[str, Any], role: str
) -> None:
    (pattern,) = {
        resource for action, resource in grants(resources, role) if action == "lambda:DeleteLayerVersion"
    }
    form = pattern.rpartition(":layer:")[2]
    for runtime in RUNTIMES:
        for architecture in ARCHITECTURES:
            assert fnmatch.fnmatch(f"{layer_name('web', runtime, architecture)}:7", form)
    assert not fnmatch.fnmatch("web:7", form)
    assert PARAMETERS["KeepVersions"]["Default"] == 0


def test_nothing_that_is_written_can_start_a_build(resources: dict[str, Any]) -> None:
    written = [
        resource
        for role in of_type(resources, "AWS::IAM::Role")
        for action, resource in grants(resources, role)
        if action == "s3:PutObject"
    ]
    assert written
    for resource in written:
        pattern = resource.removeprefix("${Bucket.Arn}/")
        for suffix in SUFFIXES:
            assert not pattern.startswith(PREFIX) or not fnmatch.fnmatch(f"{PREFIX}x{suffix}", pattern)
        assert not pattern.startswith(PREFIX) or pattern.endswith(("manifest.json", "vulnerabilities.json"))


# ------------------------------------------------------------------------------------------------ bucket


def test_the_bucket_keeps_versions_to_itself(resources: dict[str, Any]) -> None:
    (bucket,) = of_type(resources, "AWS::S3::Bucket").values()
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert "ServerSideEncryptionConfiguration" in bucket["BucketEncryption"]
    # Kept, unless a first creation made it and rolls back: its name would be in the way of the next.
    assert resources["Bucket"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resources["Bucket"]["UpdateReplacePolicy"] == "Retain"
    (policy,) = of_type(resources, "AWS::S3::BucketPolicy").values()
    tls, create, *others = policy["PolicyDocument"]["Statement"]
    assert (tls["Effect"], tls["Principal"], tls["Action"]) == ("Deny", "*", "s3:*")
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (create["Effect"], create["Principal"], create["Action"]) == ("Deny", "*", "s3:PutObject")
    assert words(create["Resource"]) == "${Bucket.Arn}/builds/*"
    # Without an exemption for uploads in parts: then not even their beginning is allowed.
    assert create["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    # Besides, CloudFront reads the catalogue's three documents, if the stack's owner wants it.
    assert [other["Fn::If"][0] for other in others] == ["OpenCatalogue"]


def test_layers_and_manifests_and_kept_locks_never_expire(resources: dict[str, Any]) -> None:
    rules = resources["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = {rule.get("Prefix") for rule in rules if "ExpirationInDays" in rule}
    assert expiring == {"builds/", "fixes/", "plans/", f"{LAYERS}{CHOICES}", STAGED}
    assert any("NoncurrentVersionExpiration" in rule for rule in rules)
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)


def test_uploads_of_requirements_and_locks_start_builds(resources: dict[str, Any]) -> None:
    configurations = resources["Bucket"]["Properties"]["NotificationConfiguration"]["LambdaConfigurations"]
    assert {configuration["Event"] for configuration in configurations} == {"s3:ObjectCreated:*"}
    filters = [configuration["Filter"]["S3Key"]["Rules"] for configuration in configurations]
    found = [{rule["Name"]: rule["Value"] for rule in rules} for rules in filters]
    assert sorted(rules["suffix"] for rules in found) == sorted(SUFFIXES)
    assert all(rules == {"prefix": PREFIX, "suffix": rules["suffix"]} for rules in found)
    # S3 takes no two that one key could match.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
    assert not any(one.endswith(other) for one, other in itertools.permutations(SUFFIXES, 2))


# ------------------------------------------------------------------------------------------------ functions


class Reading(dict[str, str]):
    """Environment variables that remember which were asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return super().__getitem__(name)


OURS = tuple(name for name in FUNCTIONS if name != "ResolveLayer")
"""Those of this package; that one is the builder."""


def test_resolve_layer_is_told_what_jobs_are_told(resources: dict[str, Any]) -> None:
    """But for the proxy: where there is one, it is not asked."""
    told = resources["ResolveLayer"]["Properties"]["Environment"]["Variables"].keys()
    for architecture in ("Arm64", "X8664"):
        job = resources[f"{architecture}JobDefinition"]["Properties"]["ContainerProperties"]["Environment"]
        assert told == {one["Name"] for one in job} - {"HTTPS_PROXY", "NO_PROXY"} | {"HOME"}
    asked = resources["PlanBuild"]["Properties"]["Environment"]["Variables"]["RESOLVE_LAYERS"]
    condition = asked["Fn::If"][0]
    assert asked == {"Fn::If": [condition, "ENABLED", "DISABLED"]}
    enabled, direct = whole()["Conditions"][condition]["Fn::And"]
    assert enabled == {"Fn::Equals": [{"Ref": "ResolveLayers"}, "ENABLED"]}
    assert direct == {"Fn::Equals": [{"Ref": "HttpsProxy"}, ""]}


@pytest.mark.parametrize("function", OURS)
def test_a_function_is_told_what_it_reads_and_no_more(resources: dict[str, Any], function: str) -> None:
    variables = resources[function]["Properties"]["Environment"]["Variables"]
    lambdas_own = {"AWS_LAMBDA_LOG_GROUP_NAME": "group"}
    values = {"DEFAULT_RUNTIME": "python3.13", "KEEP_VERSIONS": "0", "PENDING_SECONDS": "120"}
    told = Reading({name: words(value) for name, value in variables.items()} | values | lambdas_own)
    reader: Callable[..., object] = getattr(environment, f"{function}Environment").read
    reader(told)
    assert told.read - lambdas_own.keys() == {
        name for name in variables if not name.startswith("POWERTOOLS_")
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_s_handler_exists(resources: dict[str, Any], function: str) -> None:
    *packages, module, name = resources[function]["Properties"]["Handler"].split(".")
    folder = "functions" if function in OURS else "container"
    tree = ast.parse(Path(ROOT, folder, *packages, f"{module}.py").read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_logs_to_its_own_group_only(resources: dict[str, Any], function: str) -> None:
    properties = resources[function]["Properties"]
    assert properties["LoggingConfig"]["LogGroup"] == {"Ref": f"{function}Logs"}
    assert "RetentionInDays" in resources[f"{function}Logs"]["Properties"]
    assert {
        resource for action, resource in grants(resources, f"{function}Role") if action.startswith("logs:")
    } == {f"${{{function}Logs.Arn}}"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_are_of_one_make(resources: dict[str, Any], function: str) -> None:
    properties = resources[function]["Properties"]
    assert properties["Architectures"] == ["arm64"]
    assert properties["Runtime"] == "python3.13"
    assert properties["TracingConfig"] == {"Mode": "Active"}
    assert "ReservedConcurrentExecutions" not in properties


BY_THE_CLOCK = {"UpdateCatalogue", "WatchLayers"}
"""What the clock begins again, and does all that was left: its events are worth nothing."""


def test_events_that_fail_for_good_are_kept(resources: dict[str, Any]) -> None:
    configurations = of_type(resources, "AWS::Lambda::EventInvokeConfig").values()
    goes_to = {
        configuration["FunctionName"]["Ref"]: words(
            configuration["DestinationConfig"]["OnFailure"]["Destination"]
        )
        for configuration in configurations
        if configuration["FunctionName"]["Ref"] not in BY_THE_CLOCK
    }
    assert goes_to == {"StartBuild": "${WriteManifest.Arn}", "WriteManifest": "${UnansweredBuilds.Arn}"}
    start = resources["StartBuild"]["Properties"]
    assert words(start["DeadLetterConfig"]["TargetArn"]) == "${UnansweredUploads.Arn}"
    assert ("sqs:SendMessage", "${UnansweredUploads.Arn}") in grants(resources, "StartBuildRole")
    assert ("sqs:SendMessage", "${UnansweredBuilds.Arn}") in grants(resources, "WriteManifestRole")
    invoked = {
        where for action, where in grants(resources, "StartBuildRole") if action == "lambda:InvokeFunction"
    }
    name = words(resources["WriteManifest"]["Properties"]["FunctionName"])
    assert {where.rpartition(":function:")[2] for where in invoked} == {name}
    for queue in ("UnansweredUploads", "UnansweredBuilds"):
        assert resources[queue]["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600
        alarm = resources[f"{queue}Alarm"]["Properties"]
        assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}]


def test_every_end_of_an_execution_that_is_no_success_is_looked_at(resources: dict[str, Any]) -> None:
    rules = of_type(resources, "AWS::Events::Rule")
    patterns = {name: rule.get("EventPattern", {}) for name, rule in rules.items()}
    (rule,) = (rules[name] for name, pattern in patterns.items() if pattern.get("source") == ["aws.states"])
    pattern = rule["EventPattern"]["detail"]
    assert set(pattern["status"]) == {"FAILED", "TIMED_OUT", "ABORTED"}
    machine = resources["BuildLayers"]["Properties"]["StateMachineName"]
    assert words(pattern["stateMachineArn"][0]).endswith(f":stateMachine:{words(machine)}")
    assert [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": ["WriteManifest", "Arn"]}]


def test_start_build_names_the_machine_that_there_is(resources: dict[str, Any]) -> None:
    """By name, for a reference would close a cycle: so both names must stay the same."""
    (machine,) = of_type(resources, "AWS::StepFunctions::StateMachine").values()
    name = words(machine["StateMachineName"])
    arn = words(resources["StartBuild"]["Properties"]["Environment"]["Variables"]["STATE_MACHINE_ARN"])
    assert arn.endswith(f":stateMachine:{name}")
    assert ("states:StartExecution", arn) in grants(resources, "StartBuildRole")
    assert machine["StateMachineType"] == "STANDARD"
    assert machine["TracingConfiguration"] == {"Enabled": True}


# ------------------------------------------------------------------------------------------------ Batch

BATCH = {"Arm64": ("ARM64", "arm64"), "X8664": ("X86_64", "x86_64")}


def test_an_architecture_has_everything_of_its_own(resources: dict[str, Any]) -> None:
    variables = resources["PlanBuild"]["Properties"]["Environment"]["Variables"]
    for prefix, (cpu, architecture) in BATCH.items():
        definition = resources[f"{prefix}JobDefinition"]["Properties"]["ContainerProperties"]
        assert definition["RuntimePlatform"]["CpuArchitecture"] == cpu
        assert words(definition["Image"]) == f"${{BuilderImage.Outputs.{prefix}Image}}"
        (order,) = resources[f"{prefix}Queue"]["Properties"]["ComputeEnvironmentOrder"]
        assert order["ComputeEnvironment"] == {"Ref": f"{prefix}ComputeEnvironment"}
        assert variables[f"{architecture.upper()}_QUEUE_ARN"] == {"Ref": f"{prefix}Queue"}
        assert variables[f"{architecture.upper()}_JOB_DEFINITION_ARN"] == {"Ref": f"{prefix}JobDefinition"}
        assert variables[f"{architecture.upper()}_SOURCE_JOB_DEFINITION_ARN"] == {
            "Fn::If": ["BuildSources", {"Ref": f"{prefix}SourceJobDefinition"}, ""]
        }
        sizes = {item["Type"]: item["Value"] for item in definition["ResourceRequirements"]}
        assert sizes == {"VCPU": {"Ref": f"{prefix}Vcpu"}, "MEMORY": {"Ref": f"{prefix}Memory"}}


def test_architectures_differ_in_nothing_else(resources: dict[str, Any]) -> None:
    def neutral(name: str, prefix: str) -> str:
        cpu, architecture = BATCH[prefix]
        text = json.dumps(resources[f"{prefix}{name}"], sort_keys=True)
        return text.replace(prefix, "P").replace(f'"{cpu}"', '"C"').replace(architecture, "A")

    for name in ("ComputeEnvironment", "Queue", "JobDefinition", "SourceJobDefinition"):
        assert neutral(name, "Arm64") == neutral(name, "X8664")


@pytest.mark.parametrize("prefix", BATCH)
def test_builds_from_source_differ_in_the_role_alone(resources: dict[str, Any], prefix: str) -> None:
    plain, source = (
        copy.deepcopy(resources[f"{prefix}{name}JobDefinition"]["Properties"]) for name in ("", "Source")
    )
    assert source["ContainerProperties"].pop("JobRoleArn") != plain["ContainerProperties"].pop("JobRoleArn")
    name = plain.pop("JobDefinitionName")["Fn::Sub"]
    assert source.pop("JobDefinitionName") == {"Fn::Sub": f"{name}-source"}
    assert source == plain


def test_jobs_may_be_submitted_by_every_revision_of_our_definitions_and_by_no_other(
    resources: dict[str, Any],
) -> None:
    """With a number or an asterisk: IAM compares with the revision that is asked for."""
    definitions = of_type(resources, "AWS::Batch::JobDefinition").values()
    names = {words(one["JobDefinitionName"]) for one in definitions}
    assert len(names) == len(definitions) == 4
    assert all(one["ResourceRetentionPolicy"] == {"SkipDeregisterOnUpdate": True} for one in definitions)
    given = {
        resource for action, resource in grants(resources, "BuildLayersRole") if action == "batch:SubmitJob"
    }
    prefix = "arn:${AWS::Partition}:batch:${AWS::Region}:${AWS::AccountId}:job-definition/"
    assert {one for one in given if "job-definition/" in one} == {f"{prefix}{name}:*" for name in names}


def test_the_roles_of_builds_differ_in_the_layers_that_they_see(resources: dict[str, Any]) -> None:
    plain, source = (json.dumps(resources[name]["Properties"]) for name in ("JobRole", "SourceJobRole"))
    assert plain != source == plain.replace("/layers/*", "/layers/*/*")


def decides(definition: Mapping[str, Any], **ended: str) -> str:
    """Batch's rule: the first entry all of whose conditions match; without one the job is tried again.

    A condition is a text that may end in an asterisk, whatever its case:
    https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html
    """
    for rule in definition["RetryStrategy"]["EvaluateOnExit"]:
        conditions = {name: pattern for name, pattern in rule.items() if name != "Action"}
        if all(
            fnmatch.fnmatch(ended.get(name, "").lower(), text.lower()) for name, text in conditions.items()
        ):
            return str(rule["Action"])
    return "RETRY"


@pytest.mark.parametrize("prefix", BATCH)
def test_jobs_are_tried_again_for_a_reason(resources: dict[str, Any], prefix: str) -> None:
    definition = resources[f"{prefix}JobDefinition"]["Properties"]
    ended = "Essential container in task exited"
    cases = [
        ("EXIT", {"OnExitCode": "2", "OnStatusReason": ended}),
        ("EXIT", {"OnExitCode": "70", "OnStatusReason": ended}),
        ("EXIT", {"OnExitCode": "1", "OnStatusReason": ended}),
        ("EXIT", {"OnExitCode": "137", "OnReason": "OutOfMemoryError: Container killed due to memory usage"}),
        ("RETRY", {"OnExitCode": "75", "OnStatusReason": ended}),
        ("RETRY", {"OnReason": "CannotPullContainerError: pull image manifest has been retried 5 time(s)"}),
        ("RETRY", {"OnStatusReason": "Your Spot Task was interrupted."}),
        # Told to stop, the builder may still end by itself, with any of its codes.
        ("RETRY", {"OnStatusReason": "Your Spot Task was interrupted.", "OnExitCode": "2"}),
        ("EXIT", {"OnExitCode": "143", "OnStatusReason": ended}),
        ("EXIT", {"OnExitCode": "255", "OnStatusReason": ended}),
        # Before the container starts there is no exit code; the reason stands in one place or the other.
        ("RETRY", {"OnStatusReason": "Task failed to start", "OnReason": "ResourceInitializationError: no"}),
        ("RETRY", {"OnStatusReason": "ResourceInitializationError: unable to pull secrets or registry auth"}),
        ("RETRY", {"OnStatusReason": "CannotPullContainerError: pull image manifest"}),
        ("RETRY", {"OnStatusReason": "Timeout waiting for network interface provisioning to complete."}),
    ]
    for action, how in cases:
        assert decides(definition, **how) == action, how
    rules = definition["RetryStrategy"]["EvaluateOnExit"]
    assert len(rules) <= 5
    for rule in rules:
        for name, pattern in rule.items():
            allowed = r"[0-9]*\*?" if name == "OnExitCode" else r"[A-Za-z0-9.:\s]*\*?"
            assert re.fullmatch(allowed, pattern)


@pytest.mark.parametrize("prefix", BATCH)
def test_jobs_can_write_where_the_image_lets_them(resources: dict[str, Any], prefix: str) -> None:
    """A mount takes owner and mode from the image's VOLUME; without one only root could write there."""
    definition = resources[f"{prefix}JobDefinition"]["Properties"]["ContainerProperties"]
    assert definition["ReadonlyRootFilesystem"] is True
    volumes = {volume["Name"] for volume in definition["Volumes"]}
    dockerfile = (ROOT / "container/Dockerfile").read_text()
    declared = re.findall(r"^VOLUME\s+(\S+)", dockerfile, re.MULTILINE)
    for mount in definition["MountPoints"]:
        assert mount["SourceVolume"] in volumes
        assert mount["ContainerPath"] in declared
        assert not mount["ReadOnly"]


def test_nobody_can_knock_at_a_job(resources: dict[str, Any]) -> None:
    (group,) = of_type(resources, "AWS::EC2::SecurityGroup").values()
    assert "SecurityGroupIngress" not in group
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]] == [(443, 443)]
    (more,) = (one for one in resources.values() if one["Type"] == "AWS::EC2::SecurityGroupEgress")
    assert more["Condition"] == "HasOutboundPort"
    assert more["Properties"]["FromPort"] == more["Properties"]["ToPort"] == {"Ref": "OutboundPort"}
    assert not of_type(resources, "AWS::EC2::SecurityGroupIngress")
    assert of_type(resources, "AWS::EC2::SecurityGroupIngress") == {}


# ------------------------------------------------------------------------------------------------ indexes


def test_jobs_are_told_of_indexes_alike_and_given_no_secret(resources: dict[str, Any]) -> None:
    definitions = of_type(resources, "AWS::Batch::JobDefinition")
    first, *others = (one["ContainerProperties"] for one in definitions.values())
    assert len(others) == 3
    assert all(first["Environment"] == other["Environment"] for other in others)
    names = [variable["Name"] for variable in first["Environment"]]
    assert {"LAYER_BUILDER_INDEX_SECRET", "LAYER_BUILDER_CODEARTIFACT"} <= set(names)
    # No job definition is left out: whoever could choose one without would be rid of the cooldown.
    assert {"LAYER_BUILDER_COOLDOWN", "LAYER_BUILDER_COOLDOWN_EXEMPT"} <= set(names)
    for definition in (first, *others):
        assert "Secrets" not in definition, "a package's code could read them in the environment"
        assert "LinuxParameters" not in definition, "an init process would show its environment"
    ours = (action for action, _ in grants(resources, "JobExecutionRole"))
    assert not [action for action in ours if action.startswith("secretsmanager:")]


def test_a_cooldown_of_the_stack_is_one_that_jobs_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that none can read would fail every build."""
    pattern = PARAMETERS["Cooldown"]["AllowedPattern"]
    for number in range(-1, 1100):
        for unit in ("hour", "day", "week"):
            for text in (f"{number} {unit}", f"{number} {unit}s"):
                try:
                    good = bool(cooldown.parse(text))
                except ValueError:
                    good = False
                assert bool(re.search(pattern, text)) == (good and number < 1000), text
    assert not re.search(pattern, "7 days\nx")
    exempt = PARAMETERS["CooldownExempt"]["AllowedPattern"]
    arn = "arn:aws:codeartifact:eu-west-1:111122223333:repository/d/r"
    given = f"Our_Lib,https://packages.example.com:8443/simple/,{arn}"
    assert re.search(exempt, given)
    monkeypatch.setenv("LAYER_BUILDER_COOLDOWN_EXEMPT", given)
    assert len(builder_environment.read().ageless) == 2
    assert not re.search(exempt, "https://user:password@packages.example.com/")


@pytest.mark.parametrize("name", ["IndexUrl", "ExtraIndexUrls", "AllowedIndexes", "HttpsProxy"])
def test_an_address_with_credentials_is_no_parameter(name: str) -> None:
    pattern = PARAMETERS[name]["AllowedPattern"]
    assert re.search(pattern, "https://packages.example.com/simple")
    assert not re.search(pattern, "https://user:password@packages.example.com/simple")
