"""How each resource type is made. A maker takes the properties it uses; what it leaves over is an error.

Nested values go to boto3 by the shape of the call's parameters, so a nested name that the API lacks is an
error, too.
"""

import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import ListShape, Shape, StructureShape

from local.clients import Clients
from local.intrinsics import TemplateError
from local.settings import ACCOUNT_ID, REGION


@dataclass(frozen=True)
class Made:
    """A resource that stands: what ``Ref`` and ``Fn::GetAtt`` give."""

    ref: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class Properties:
    """A resource's properties, their functions worked out; taking one marks it as used."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.left = dict(values)

    def take(self, name: str, default: Any = None) -> Any:
        """Return a property, or ``default`` when the template does not set it."""
        return self.left.pop(name, default)

    def take_all(self) -> dict[str, Any]:
        """Return what is left, by name."""
        taken, self.left = self.left, {}
        return taken


@dataclass(frozen=True)
class Change:
    """A resource that stands and is to have other properties.

    Attributes:
        logical_id: Its name in the template.
        made: What it is.
        before: The properties that it has.
        properties: Those that it gets.
    """

    logical_id: str
    made: Made
    before: Mapping[str, Any]
    properties: Properties

    @property
    def changed(self) -> set[str]:
        """The names of those that differ."""
        names = self.before.keys() | self.properties.left.keys()
        return {name for name in names if self.before.get(name) != self.properties.left.get(name)}

    def require_only(self, *names: str) -> None:
        """Raise TemplateError when others change."""
        if other := sorted(self.changed - set(names)):
            raise TemplateError(f"the embedded AWS cannot change its {other[0]}")


class Stack:
    """Makes the calls for one stack."""

    def __init__(self, name: str, clients: Clients) -> None:
        self.name = name
        self.clients = clients

    def physical_name(self, logical_id: str) -> str:
        """Return a name as CloudFormation makes one up, but the same each time."""
        suffix = hashlib.sha256(f"{self.name}/{logical_id}".encode()).hexdigest()[:12].upper()
        return f"{self.name}-{logical_id}-{suffix}"

    def call(self, service: str, operation: str, **parameters: Any) -> Any:
        """Call an API with parameters named and typed as CloudFormation does.

        Raises:
            TemplateError: The call has no parameter of some name.
            ClientError: It was refused.
        """
        client = self.clients.get(service)
        shape = client.meta.service_model.operation_model(operation).input_shape
        given = {name: value for name, value in parameters.items() if value is not None}
        return getattr(client, xform_name(operation))(**shaped(given, shape))


def shaped(value: Any, shape: Shape) -> Any:
    """Return a CloudFormation value as the API takes it: names in its case, numbers and text its way.

    Raises:
        TemplateError: The API has no such name.
    """
    if isinstance(shape, StructureShape):
        members = {name.lower(): (name, member) for name, member in shape.members.items()}
        if unknown := [name for name in value if name.lower() not in members]:
            raise TemplateError(f"{shape.name} has no {unknown[0]}")
        pairs = [(*members[name.lower()], item) for name, item in value.items()]
        return {name: shaped(item, member) for name, member, item in pairs}
    if isinstance(shape, ListShape):
        return [shaped(item, shape.member) for item in value]
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name in ("double", "float"):
        return float(value)
    if shape.type_name == "boolean":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    if shape.type_name == "string":
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value


def tags(properties: Properties) -> dict[str, str]:
    """Take a resource's tags as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in properties.take("Tags", [])}


def make_bucket(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::S3::Bucket, in the order in which settings depend on each other."""
    name = properties.take("BucketName") or stack.physical_name(logical_id).lower()
    arn = f"arn:aws:s3:::{name}"
    stack.call("s3", "CreateBucket", Bucket=name)
    for setting, operation, parameter in (
        ("VersioningConfiguration", "PutBucketVersioning", "VersioningConfiguration"),
        ("PublicAccessBlockConfiguration", "PutPublicAccessBlock", "PublicAccessBlockConfiguration"),
        ("OwnershipControls", "PutBucketOwnershipControls", "OwnershipControls"),
    ):
        if value := properties.take(setting):
            stack.call("s3", operation, Bucket=name, **{parameter: value})
    if encryption := properties.take("BucketEncryption"):
        rules = {
            "Rules": [
                {
                    _renamed(key, ServerSideEncryptionByDefault="ApplyServerSideEncryptionByDefault"): value
                    for key, value in rule.items()
                }
                for rule in encryption["ServerSideEncryptionConfiguration"]
            ]
        }
        stack.call("s3", "PutBucketEncryption", Bucket=name, ServerSideEncryptionConfiguration=rules)
    if lifecycle := properties.take("LifecycleConfiguration"):
        rules = {"Rules": [_lifecycle_rule(rule) for rule in lifecycle["Rules"]]}
        stack.call("s3", "PutBucketLifecycleConfiguration", Bucket=name, LifecycleConfiguration=rules)
    if given := tags(properties):
        pairs = [{"Key": key, "Value": value} for key, value in given.items()]
        stack.call("s3", "PutBucketTagging", Bucket=name, Tagging={"TagSet": pairs})
    if notifications := properties.take("NotificationConfiguration"):
        given_targets = notifications.pop("LambdaConfigurations", [])
        targets = [_lambda_target(dict(target), arn, stack) for target in given_targets]
        configuration = {"LambdaFunctionConfigurations": targets, **notifications}
        stack.call(
            "s3", "PutBucketNotificationConfiguration", Bucket=name, NotificationConfiguration=configuration
        )
    regional = f"{name}.s3.{REGION}.amazonaws.com"
    return Made(name, {"Arn": arn, "DomainName": f"{name}.s3.amazonaws.com", "RegionalDomainName": regional})


def _renamed(name: str, **names: str) -> str:
    return names.get(name, name)


def _lifecycle_rule(given: Mapping[str, Any]) -> dict[str, Any]:
    # CloudFormation's own, flatter form: the API groups what expires.
    rule = dict(given)
    expiration = {
        api: rule.pop(name)
        for name, api in (
            ("ExpirationInDays", "Days"),
            ("ExpirationDate", "Date"),
            ("ExpiredObjectDeleteMarker", "ExpiredObjectDeleteMarker"),
        )
        if name in rule
    }
    prefix = rule.pop("Prefix", "")
    return {"Filter": {"Prefix": prefix}, **({"Expiration": expiration} if expiration else {}), **rule}


def _lambda_target(target: dict[str, Any], bucket_arn: str, stack: Stack) -> dict[str, Any]:
    function = target.pop("Function")
    if not _may_invoke(function, bucket_arn, stack):
        raise TemplateError(f"S3 may not invoke {function}: no permission, or made after the bucket")
    rules = target.pop("Filter", {}).get("S3Key", {}).get("Rules", [])
    key_filter = {"Filter": {"Key": {"FilterRules": rules}}} if rules else {}
    return {"LambdaFunctionArn": function, "Events": [target.pop("Event")], **key_filter, **target}


def _may_invoke(function: str, bucket_arn: str, stack: Stack) -> bool:
    # S3 checks this when the notification is put; moto does not.
    try:
        policy = json.loads(stack.call("lambda", "GetPolicy", FunctionName=function)["Policy"])
    except ClientError:
        return False  # it has no policy at all
    wanted = {"AWS:SourceAccount": ACCOUNT_ID, "AWS:SourceArn": bucket_arn}
    return any(
        statement["Principal"] == {"Service": "s3.amazonaws.com"}
        and all(
            fnmatch.fnmatchcase(wanted.get(key, ""), pattern)
            for condition in statement.get("Condition", {}).values()
            for key, pattern in condition.items()
        )
        for statement in policy["Statement"]
    )


def make_bucket_policy(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::S3::BucketPolicy."""
    policy = json.dumps(properties.take("PolicyDocument"))
    stack.call("s3", "PutBucketPolicy", Bucket=properties.take("Bucket"), Policy=policy)
    return Made(stack.physical_name(logical_id))


def make_role(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::IAM::Role. The role is there, with its policies; moto does not enforce them."""
    name = properties.take("RoleName") or stack.physical_name(logical_id)
    trust = json.dumps(properties.take("AssumeRolePolicyDocument"))
    policies, managed = properties.take("Policies", []), properties.take("ManagedPolicyArns", [])
    role = stack.call(
        "iam", "CreateRole", RoleName=name, AssumeRolePolicyDocument=trust, **properties.take_all()
    )["Role"]
    for policy in policies:
        document = json.dumps(policy["PolicyDocument"])
        stack.call(
            "iam", "PutRolePolicy", RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document
        )
    for arn in managed:
        stack.call("iam", "AttachRolePolicy", RoleName=name, PolicyArn=arn)
    return Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})


def update_role(change: Change, stack: Stack) -> Made:
    """Write a role's own policies anew; nothing else of it changes here."""
    change.require_only("Policies")
    policies = change.properties.take_all().get("Policies", [])
    if {policy["PolicyName"] for policy in change.before["Policies"]} - {p["PolicyName"] for p in policies}:
        raise TemplateError("the embedded AWS takes no policy from a role")
    for policy in policies:
        name, document = policy["PolicyName"], json.dumps(policy["PolicyDocument"])
        stack.call("iam", "PutRolePolicy", RoleName=change.made.ref, PolicyName=name, PolicyDocument=document)
    return change.made


def make_log_group(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Logs::LogGroup."""
    name = properties.take("LogGroupName") or stack.physical_name(logical_id)
    retention = properties.take("RetentionInDays")
    stack.call("logs", "CreateLogGroup", LogGroupName=name, Tags=tags(properties), **properties.take_all())
    if retention:
        stack.call("logs", "PutRetentionPolicy", LogGroupName=name, RetentionInDays=retention)
    return Made(name, {"Arn": f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{name}:*"})


def make_queue(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::SQS::Queue."""
    name = properties.take("QueueName") or stack.physical_name(logical_id)
    given = tags(properties)
    attributes = {
        key: json.dumps(value) if isinstance(value, dict) else shaped(value, STRING)
        for key, value in properties.take_all().items()
    }
    if unknown := sorted(attributes.keys() - QUEUE_ATTRIBUTES):
        raise TemplateError(f"a queue has no attribute {unknown[0]}")
    url = stack.call("sqs", "CreateQueue", QueueName=name, Attributes=attributes, Tags=given)["QueueUrl"]
    return Made(url, {"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{name}", "QueueName": name})


def make_queue_policy(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::SQS::QueuePolicy. It is kept; what rules send comes in without being asked."""
    policy = json.dumps(properties.take("PolicyDocument"))
    for url in properties.take("Queues"):
        stack.call("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": policy})
    return Made(stack.physical_name(logical_id))


STRING: Final = Shape("String", {"type": "string"})
# The API takes a map, so its shape does not know the names.
QUEUE_ATTRIBUTES: Final = frozenset({
    "DelaySeconds", "KmsDataKeyReusePeriodSeconds", "KmsMasterKeyId", "MaximumMessageSize",
    "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "RedriveAllowPolicy", "RedrivePolicy",
    "SqsManagedSseEnabled", "VisibilityTimeout",
})  # fmt: skip


def make_function(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Lambda::Function."""
    name = properties.take("FunctionName") or stack.physical_name(logical_id)
    reserved = properties.take("ReservedConcurrentExecutions")
    function = stack.call(
        "lambda", "CreateFunction", FunctionName=name, Tags=tags(properties), **properties.take_all()
    )
    if reserved is not None:
        stack.call(
            "lambda", "PutFunctionConcurrency", FunctionName=name, ReservedConcurrentExecutions=reserved
        )
    return Made(name, {"Arn": function["FunctionArn"]})


def update_function(change: Change, stack: Stack) -> Made:
    """Give a function its new code, and what can be configured anew here."""
    changed = change.changed
    change.require_only("Code", "Description", "Environment", "Handler", "Layers", "MemorySize", "Timeout")
    wanted = {name: value for name, value in change.properties.take_all().items() if name in changed}
    if code := wanted.pop("Code", None):
        stack.call("lambda", "UpdateFunctionCode", FunctionName=change.made.ref, **code)
    if wanted:
        stack.call("lambda", "UpdateFunctionConfiguration", FunctionName=change.made.ref, **wanted)
    return change.made


def make_permission(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Lambda::Permission."""
    statement_id = stack.physical_name(logical_id)
    stack.call("lambda", "AddPermission", StatementId=statement_id, **properties.take_all())
    return Made(statement_id)


def make_event_invoke_config(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Lambda::EventInvokeConfig; a queue or a function on failure is served here, nothing else."""
    destinations = properties.left.get("DestinationConfig", {})
    for when, target in destinations.items():
        if when != "OnFailure" or not target["Destination"].startswith(("arn:aws:sqs:", "arn:aws:lambda:")):
            raise TemplateError(f"the destination {when} {target['Destination']} is not served here")
    if properties.left.get("Qualifier") != "$LATEST":
        raise TemplateError("only $LATEST can be configured here")
    stack.call("lambda", "PutFunctionEventInvokeConfig", **properties.take_all())
    return Made(stack.physical_name(logical_id))


def make_event_source_mapping(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Lambda::EventSourceMapping of a queue; of other sources nothing is taken here."""
    source = str(properties.left.get("EventSourceArn", ""))
    if not source.startswith("arn:aws:sqs:") or source.endswith(".fifo"):
        raise TemplateError(f"the source {source} of {logical_id} is not served here")
    if answers := properties.left.get("FunctionResponseTypes"):
        raise TemplateError(f"answers of {answers[0]} are not read here")
    mapping = stack.call("lambda", "CreateEventSourceMapping", **properties.take_all())
    return Made(mapping["UUID"], {"Id": mapping["UUID"]})


def make_state_machine(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::StepFunctions::StateMachine, its definition fetched and filled in."""
    name = properties.take("StateMachineName") or stack.physical_name(logical_id)
    text = _definition(properties, stack)
    machine = stack.call(
        "stepfunctions",
        "CreateStateMachine",
        name=name,
        type=properties.take("StateMachineType", "STANDARD"),
        definition=text,
        **properties.take_all(),
    )
    arn = machine["stateMachineArn"]
    return Made(arn, {"Arn": arn, "Name": name})


def update_state_machine(change: Change, stack: Stack) -> Made:
    """AWS::StepFunctions::StateMachine. Executions that run keep the definition that they began with.

    https://docs.aws.amazon.com/step-functions/latest/apireference/API_UpdateStateMachine.html
    """
    change.require_only(
        "DefinitionS3Location", "DefinitionString", "DefinitionSubstitutions", "RoleArn",
        "LoggingConfiguration", "TracingConfiguration",
    )  # fmt: skip
    text, given = _definition(change.properties, stack), change.properties.take_all()
    wanted = {name: given.get(name) for name in ("RoleArn", "LoggingConfiguration", "TracingConfiguration")}
    arn = change.made.ref
    stack.call("stepfunctions", "UpdateStateMachine", stateMachineArn=arn, definition=text, **wanted)
    return change.made


def _definition(properties: Properties, stack: Stack) -> str:
    location, text = properties.take("DefinitionS3Location"), properties.take("DefinitionString")
    if location:
        text = stack.call("s3", "GetObject", **location)["Body"].read().decode()
    for key, value in properties.take("DefinitionSubstitutions", {}).items():
        text = text.replace(f"${{{key}}}", str(value))
    if left := re.search(r"\$\{(\w+)\}", text):
        raise TemplateError(f"the definition's {left[0]} has no substitution")
    return str(text)


def make_builder_image(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """The nested stack of infra/image.yaml: the builder on this machine stands in for the image."""
    properties.take_all()
    repository = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/{stack.name}"
    outputs = {
        "Arm64Image": f"{repository}:local-arm64",
        "X8664Image": f"{repository}:local-x86_64",
        "RepositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/{stack.name}",
        "RepositoryUri": repository,
    }
    return Made(logical_id, {f"Outputs.{name}": value for name, value in outputs.items()})


def make_security_group(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::EC2::SecurityGroup; egress rules that are given replace the one that lets everything out."""
    group_id = stack.call(
        "ec2",
        "CreateSecurityGroup",
        GroupName=properties.take("GroupName") or stack.physical_name(logical_id),
        Description=properties.take("GroupDescription"),
        VpcId=properties.take("VpcId"),
    )["GroupId"]
    ingress, egress = properties.take("SecurityGroupIngress"), properties.take("SecurityGroupEgress")
    if ingress:
        permissions = [_ip_permission(rule) for rule in ingress]
        stack.call("ec2", "AuthorizeSecurityGroupIngress", GroupId=group_id, IpPermissions=permissions)
    if egress:
        anywhere = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        stack.call("ec2", "RevokeSecurityGroupEgress", GroupId=group_id, IpPermissions=anywhere)
        permissions = [_ip_permission(rule) for rule in egress]
        stack.call("ec2", "AuthorizeSecurityGroupEgress", GroupId=group_id, IpPermissions=permissions)
    if given := tags(properties):
        pairs = [{"Key": key, "Value": value} for key, value in given.items()]
        stack.call("ec2", "CreateTags", Resources=[group_id], Tags=pairs)
    return Made(group_id, {"GroupId": group_id})


def make_way_out(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::EC2::SecurityGroupEgress."""
    group = properties.take("GroupId")
    permissions = [_ip_permission(properties.take_all())]
    stack.call("ec2", "AuthorizeSecurityGroupEgress", GroupId=group, IpPermissions=permissions)
    return Made(stack.physical_name(logical_id))


def _ip_permission(rule: Mapping[str, Any]) -> dict[str, Any]:
    permission = dict(rule)
    address = {name: permission.pop(name) for name in ("CidrIp", "Description") if name in permission}
    return {**permission, "IpRanges": [address]}


def make_compute_environment(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Batch::ComputeEnvironment."""
    name = properties.take("ComputeEnvironmentName") or stack.physical_name(logical_id)
    # Batch takes its service-linked role when none is named; moto must be told its name.
    role = properties.take("ServiceRole") or _service_linked_role("batch.amazonaws.com", stack)
    environment = stack.call(
        "batch",
        "CreateComputeEnvironment",
        computeEnvironmentName=name,
        serviceRole=role,
        **properties.take_all(),
    )
    arn = environment["computeEnvironmentArn"]
    return Made(arn, {"ComputeEnvironmentArn": arn})


def _service_linked_role(service: str, stack: Stack) -> str:
    path = f"/aws-service-role/{service}/"
    roles = stack.call("iam", "ListRoles", PathPrefix=path)["Roles"]
    if not roles:
        roles = [stack.call("iam", "CreateServiceLinkedRole", AWSServiceName=service)["Role"]]
    return str(roles[0]["Arn"])


def make_job_queue(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Batch::JobQueue."""
    name = properties.take("JobQueueName") or stack.physical_name(logical_id)
    state = properties.take("State", "ENABLED")
    queue = stack.call("batch", "CreateJobQueue", jobQueueName=name, state=state, **properties.take_all())
    return Made(queue["jobQueueArn"], {"JobQueueArn": queue["jobQueueArn"]})


def make_job_definition(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Batch::JobDefinition. What its retention policy says is for updates."""
    name = properties.take("JobDefinitionName") or stack.physical_name(logical_id)
    properties.take("ResourceRetentionPolicy")
    definition = stack.call("batch", "RegisterJobDefinition", jobDefinitionName=name, **properties.take_all())
    return Made(definition["jobDefinitionArn"])


def update_job_definition(change: Change, stack: Stack) -> Made:
    """Register another revision; the one before is deregistered, unless it is to be kept.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-batch-jobdefinition-resourceretentionpolicy.html
    """
    if "JobDefinitionName" in change.changed:
        raise TemplateError("the embedded AWS replaces nothing, as another name would have it")
    keep = change.properties.left.get("ResourceRetentionPolicy", {}).get("SkipDeregisterOnUpdate", False)
    newest = make_job_definition(change.properties, change.logical_id, stack)
    if not keep:
        stack.call("batch", "DeregisterJobDefinition", jobDefinition=change.made.ref)
    return newest


def make_alarm(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::CloudWatch::Alarm. It is there, but nothing measures here, so it never goes off."""
    name = properties.take("AlarmName") or stack.physical_name(logical_id)
    stack.call("cloudwatch", "PutMetricAlarm", AlarmName=name, **properties.take_all())
    return Made(name, {"Arn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT_ID}:alarm:{name}"})


def make_dashboard(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::CloudWatch::Dashboard. It has nothing to show."""
    name, body = (
        properties.take("DashboardName") or stack.physical_name(logical_id),
        properties.take("DashboardBody"),
    )
    json.loads(body)  # moto takes any text
    stack.call("cloudwatch", "PutDashboard", DashboardName=name, DashboardBody=body)
    return Made(name)


def make_rule(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::Events::Rule on the default bus. What schedules do is up to ``EventsService.strike``."""
    name = properties.take("Name") or stack.physical_name(logical_id)
    pattern, targets = properties.take("EventPattern", None), properties.take("Targets", [])
    when = {"EventPattern": json.dumps(pattern)} if pattern else {}
    rule = stack.call("events", "PutRule", Name=name, **when, **properties.take_all())
    if targets:
        stack.call("events", "PutTargets", Rule=name, Targets=targets)
    return Made(name, {"Arn": rule["RuleArn"]})


def make_topic(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::SNS::Topic. No mail leaves this machine."""
    name = properties.take("TopicName") or stack.physical_name(logical_id)
    key = properties.take("KmsMasterKeyId", "")
    attributes = {"Attributes": {"KmsMasterKeyId": key}} if key else {}
    arn = stack.call("sns", "CreateTopic", Name=name, **attributes)["TopicArn"]
    for subscription in properties.take("Subscription", []):
        stack.call("sns", "Subscribe", TopicArn=arn, **subscription)
    return Made(arn, {"TopicArn": arn, "TopicName": name})


def make_topic_policy(properties: Properties, logical_id: str, stack: Stack) -> Made:
    """AWS::SNS::TopicPolicy."""
    policy = json.dumps(properties.take("PolicyDocument"))
    for arn in properties.take("Topics"):
        stack.call("sns", "SetTopicAttributes", TopicArn=arn, AttributeName="Policy", AttributeValue=policy)
    return Made(stack.physical_name(logical_id))


Maker = Callable[[Properties, str, Stack], Made]

MAKERS: Final[Mapping[str, Maker]] = {
    "AWS::Batch::ComputeEnvironment": make_compute_environment,
    "AWS::Batch::JobDefinition": make_job_definition,
    "AWS::Batch::JobQueue": make_job_queue,
    "AWS::CloudWatch::Alarm": make_alarm,
    "AWS::CloudWatch::Dashboard": make_dashboard,
    "AWS::EC2::SecurityGroup": make_security_group,
    "AWS::EC2::SecurityGroupEgress": make_way_out,
    "AWS::Events::Rule": make_rule,
    "AWS::IAM::Role": make_role,
    "AWS::Lambda::EventInvokeConfig": make_event_invoke_config,
    "AWS::Lambda::EventSourceMapping": make_event_source_mapping,
    "AWS::Lambda::Function": make_function,
    "AWS::Lambda::Permission": make_permission,
    "AWS::Logs::LogGroup": make_log_group,
    "AWS::S3::Bucket": make_bucket,
    "AWS::S3::BucketPolicy": make_bucket_policy,
    "AWS::SNS::Topic": make_topic,
    "AWS::SNS::TopicPolicy": make_topic_policy,
    "AWS::SQS::Queue": make_queue,
    "AWS::SQS::QueuePolicy": make_queue_policy,
    "AWS::StepFunctions::StateMachine": make_state_machine,
}

Updater = Callable[[Change, Stack], Made]

UPDATERS: Final[Mapping[str, Updater]] = {
    "AWS::Batch::JobDefinition": update_job_definition,
    "AWS::IAM::Role": update_role,
    "AWS::Lambda::Function": update_function,
    "AWS::StepFunctions::StateMachine": update_state_machine,
}
"""How a resource that stands gets other properties; of other types nothing can change here."""

STAND_INS: Final[Mapping[str, Maker]] = {"BuilderImage": make_builder_image}
"""What is made in the place of a nested stack, by its logical id; of others, the template is deployed."""
