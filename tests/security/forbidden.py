"""What nobody, or somebody, must never be able to do: actions and ARNs, by the role's logical id.

In ARNs, {bucket} is the stack's bucket, {account} region and account, {id} the account alone, {stack} the
stack's name.
"""

from collections.abc import Mapping, Sequence

OBJECT = "arn:aws:s3:::{bucket}/"
LAMBDA = "arn:aws:lambda:{account}:"
PUBLISHING: Sequence[tuple[str, str]] = (
    ("lambda:PublishLayerVersion", LAMBDA + "layer:web-py313-arm64"),
    ("lambda:AddLayerVersionPermission", LAMBDA + "layer:web-py313-arm64:1"),
    ("ssm:PutParameter", "arn:aws:ssm:{account}:parameter/layerdrop/web-py313-arm64"),
)
UPLOADING: Sequence[tuple[str, str]] = (
    ("s3:PutObject", OBJECT + "requirements/arm64/web/requirements.txt"),
    ("s3:PutObject", OBJECT + "requirements/arm64/web/pylock.toml"),
)

EVERYBODY: Sequence[tuple[str, str]] = (
    # Become somebody else, or let others.
    ("iam:PassRole", "arn:aws:iam::{id}:role/{stack}-JobRole"),
    ("iam:PutRolePolicy", "arn:aws:iam::{id}:role/{stack}-JobRole"),
    ("iam:CreateUser", "arn:aws:iam::{id}:user/me"),
    ("sts:AssumeRole", "arn:aws:iam::{id}:role/{stack}-PublishLayerRole"),
    # Take away or open what is kept.
    ("s3:DeleteObject", OBJECT + "layers/0.zip"),
    ("s3:DeleteObjectVersion", OBJECT + "requirements/arm64/web/requirements.txt"),
    ("s3:DeleteBucket", "arn:aws:s3:::{bucket}"),
    ("s3:PutBucketPolicy", "arn:aws:s3:::{bucket}"),
    ("s3:PutBucketNotification", "arn:aws:s3:::{bucket}"),
    ("s3:PutLifecycleConfiguration", "arn:aws:s3:::{bucket}"),
    ("s3:PutObjectAcl", OBJECT + "layers/0.zip"),
    ("s3:GetObject", "arn:aws:s3:::another-bucket/requirements/arm64/web/requirements.txt"),
    ("s3:PutObject", "arn:aws:s3:::another-bucket/layers/0.zip"),
    ("logs:DeleteLogGroup", "arn:aws:logs:{account}:log-group:/aws/lambda/{stack}/PlanBuild:*"),
    # Change the parts themselves.
    ("lambda:UpdateFunctionCode", LAMBDA + "function:{stack}-WriteManifest"),
    ("lambda:UpdateFunctionConfiguration", LAMBDA + "function:{stack}-WriteManifest"),
    ("lambda:AddPermission", LAMBDA + "function:{stack}-WriteManifest"),
    ("states:UpdateStateMachine", "arn:aws:states:{account}:stateMachine:{stack}-build-layers"),
    ("batch:RegisterJobDefinition", "*"),
    ("cloudformation:UpdateStack", "arn:aws:cloudformation:{account}:stack/{stack}/x"),
    # Read what is nobody's business.
    ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:{account}:secret:another-AbCdEf"),
    ("ssm:GetParameter", "arn:aws:ssm:{account}:parameter/another"),
    ("kms:Decrypt", "arn:aws:kms:{account}:key/00000000-0000-0000-0000-000000000000"),
)

# Whatever a package brings along has these rights.
JOB: Sequence[tuple[str, str]] = (
    *PUBLISHING,
    *UPLOADING,
    ("s3:GetObject", OBJECT + "requirements/arm64/web/requirements.txt"),
    ("s3:GetObject", OBJECT + "claims/web-py313-arm64.json"),
    ("s3:GetObject", OBJECT + "builds/x/y/z/1/report.json"),
    ("s3:GetObjectVersion", OBJECT + "layers/0.zip"),
    ("s3:GetObjectVersion", OBJECT + "builds/x/y/z/1/report.json"),
    ("s3:PutObject", OBJECT + "plans/x/y/z.json"),
    ("s3:DeleteObject", OBJECT + "plans/x/y/z.json"),
    ("s3:PutObject", OBJECT + "layers/0.zip"),
    ("s3:PutObject", OBJECT + "layers/0.json"),
    # Locks of earlier builds, and of those to come: what it is to be built from, a job is told elsewhere.
    ("s3:GetObject", OBJECT + "locks/kept/0.toml"),
    ("s3:PutObject", OBJECT + "locks/kept/0.toml"),
    ("s3:PutObject", OBJECT + "locks/staged/x/y.toml"),
    ("s3:PutObject", OBJECT + "layers/web-py313-arm64/0.zip"),
    ("s3:DeleteObject", OBJECT + "builds/x/y/z/1/report.json"),
    ("s3:PutObject", OBJECT + "requirements/arm64/web/manifest.json"),
    ("s3:PutObject", OBJECT + "claims/web-py313-arm64.json"),
    ("s3:ListBucket", "arn:aws:s3:::{bucket}"),
    ("s3:ListBucketVersions", "arn:aws:s3:::{bucket}"),
    ("lambda:GetLayerVersion", LAMBDA + "layer:web-py313-arm64:1"),
    ("lambda:InvokeFunction", LAMBDA + "function:{stack}-PublishLayer"),
    ("states:StartExecution", "arn:aws:states:{account}:stateMachine:{stack}-build-layers"),
    ("batch:SubmitJob", "arn:aws:batch:{account}:job-queue/x"),
    ("events:PutEvents", "arn:aws:events:{account}:event-bus/default"),
    ("ecr:GetAuthorizationToken", "*"),
    ("logs:PutLogEvents", "arn:aws:logs:{account}:log-group:/aws/batch/{stack}:*"),
    # Of the secret and of CodeArtifact's repository that the stack was given, nothing but reading.
    ("secretsmanager:PutSecretValue", "arn:aws:secretsmanager:{account}:secret:index-AbCdEf"),
    ("codeartifact:PublishPackageVersion", "arn:aws:codeartifact:{account}:package/ours/shared/pypi//x"),
    ("codeartifact:ReadFromRepository", "arn:aws:codeartifact:{account}:repository/ours/another"),
    ("codeartifact:GetAuthorizationToken", "arn:aws:codeartifact:{account}:domain/another"),
)

FORBIDDEN: Mapping[str, Sequence[tuple[str, str]]] = {
    "StartBuildRole": (
        *PUBLISHING,
        *UPLOADING,
        ("s3:GetObject", OBJECT + "requirements/arm64/web/requirements.txt"),
        ("states:StartExecution", "arn:aws:states:{account}:stateMachine:another"),
        ("states:StopExecution", "arn:aws:states:{account}:execution:{stack}-build-layers:x"),
        ("lambda:InvokeFunction", LAMBDA + "function:{stack}-PublishLayer"),
        ("sqs:ReceiveMessage", "arn:aws:sqs:{account}:{stack}-UnansweredUploads"),
    ),
    "PlanBuildRole": (
        *PUBLISHING,
        *UPLOADING,
        ("s3:GetObject", OBJECT + "requirements/arm64/web/requirements.txt"),
        ("s3:PutObject", OBJECT + "layers/0.zip"),
        ("s3:PutObject", OBJECT + "builds/x/y/report.json"),
        ("s3:PutObject", OBJECT + "locks/kept/0.toml"),
        ("s3:GetObject", OBJECT + "locks/staged/x/y.toml"),
        ("s3:GetObject", OBJECT + "plans/x/y/z.json"),
        ("s3:GetObject", OBJECT + "layers/0.zip"),
        ("batch:SubmitJob", "arn:aws:batch:{account}:job-queue/x"),
        ("states:StartExecution", "arn:aws:states:{account}:stateMachine:{stack}-build-layers"),
    ),
    # As little as a job, and less: what it leaves for a job, no job can write.
    "ResolveLayerRole": (
        *(one for one in JOB if one[0] != "ecr:GetAuthorizationToken"),
        ("s3:PutObject", OBJECT + "layers/choices/0.json"),
        ("s3:PutObject", OBJECT + "locks/kept/0.toml"),
        ("ecr:GetAuthorizationToken", "*"),
        ("s3:GetObject", OBJECT + "claims/web-py313-arm64.json"),
    ),
    "JobRole": JOB,
    # Nor does a build from source see what others have built.
    "SourceJobRole": (
        *JOB,
        ("s3:GetObject", OBJECT + "layers/0.zip"),
        ("s3:GetObject", OBJECT + "layers/0.json"),
    ),
    "JobExecutionRole": (
        *PUBLISHING,
        *UPLOADING,
        ("ecr:PutImage", "arn:aws:ecr:{account}:repository/{stack}"),
        ("ecr:BatchGetImage", "arn:aws:ecr:{account}:repository/another"),
        ("s3:GetObject", OBJECT + "layers/0.zip"),
        ("logs:PutLogEvents", "arn:aws:logs:{account}:log-group:/aws/lambda/{stack}/PlanBuild:*"),
    ),
    "PublishLayerRole": (
        *UPLOADING,
        *PUBLISHING[1:],
        # What did not pass its trial must not come again.
        ("s3:PutObject", OBJECT + "locks/kept/0.toml"),
        ("s3:PutObject", OBJECT + "trials/web-py313-arm64/1.json"),
        ("lambda:CreateFunction", LAMBDA + "function:{stack}-try-0"),
        ("s3:GetObject", OBJECT + "requirements/arm64/web/requirements.txt"),
        ("s3:PutObject", OBJECT + "requirements/arm64/web/manifest.json"),
        ("s3:PutObject", OBJECT + "builds/x/y/z/1/report.json"),
        ("lambda:DeleteLayerVersion", LAMBDA + "layer:web:1"),
        ("ssm:PutParameter", "arn:aws:ssm:{account}:parameter/another"),
        ("ssm:DeleteParameter", "arn:aws:ssm:{account}:parameter/layerdrop/web-py313-arm64"),
        ("ssm:DeleteParameter", "arn:aws:ssm:{account}:parameter/layerdrop/web-py313-arm64/1"),
        ("ssm:PutParameter", "arn:aws:ssm:{account}:parameter/layerdrop/web-py313-arm64/1"),
        ("lambda:ListFunctions", "*"),
        ("lambda:RemoveLayerVersionPermission", LAMBDA + "layer:web-py313-arm64:1"),
        ("lambda:DeleteFunction", LAMBDA + "function:{stack}-WriteManifest"),
        ("lambda:InvokeFunction", LAMBDA + "function:{stack}-WriteManifest"),
    ),
    "TryLayerRole": (
        *PUBLISHING,
        *UPLOADING,
        ("s3:PutObject", OBJECT + "layers/0.zip"),
        ("s3:PutObject", OBJECT + "builds/x/y/z/1/report.json"),
        ("s3:PutObject", OBJECT + "claims/web-py313-arm64.json"),
        ("lambda:DeleteLayerVersion", LAMBDA + "layer:web-py313-arm64:1"),
        # None of the stack's own functions, nor anybody else's.
        ("lambda:CreateFunction", LAMBDA + "function:{stack}-PlanBuild"),
        ("lambda:DeleteFunction", LAMBDA + "function:{stack}-WriteManifest"),
        ("lambda:InvokeFunction", LAMBDA + "function:{stack}-Trial-ReleaseLayer"),
        ("lambda:DeleteFunction", LAMBDA + "function:another"),
        ("lambda:UpdateFunctionCode", LAMBDA + "function:{stack}-try-0"),
        ("lambda:AddPermission", LAMBDA + "function:{stack}-try-0"),
        # With any role that may do something, code of packages could do that.
        ("iam:PassRole", "arn:aws:iam::{id}:role/{stack}-ReleaseLayerRole"),
    ),
    "ReleaseLayerRole": (
        *UPLOADING,
        ("lambda:PublishLayerVersion", LAMBDA + "layer:web-py313-arm64"),
        ("lambda:AddLayerVersionPermission", LAMBDA + "layer:web:1"),
        ("lambda:DeleteLayerVersion", LAMBDA + "layer:web:1"),
        ("lambda:RemoveLayerVersionPermission", LAMBDA + "layer:web-py313-arm64:1"),
        ("s3:GetObject", OBJECT + "requirements/arm64/web/requirements.txt"),
        ("s3:GetObject", OBJECT + "builds/x/y/z/1/report.json"),
        ("s3:PutObject", OBJECT + "locks/staged/x/y.toml"),
        ("s3:PutObject", OBJECT + "layers/0.zip"),
        ("s3:PutObject", OBJECT + "trials/web-py313-arm64/1.json"),
        ("s3:PutObject", OBJECT + "requirements/arm64/web/manifest.json"),
        ("ssm:PutParameter", "arn:aws:ssm:{account}:parameter/another"),
        ("ssm:DeleteParameter", "arn:aws:ssm:{account}:parameter/layerdrop/web-py313-arm64"),
        ("ssm:DeleteParameter", "arn:aws:ssm:{account}:parameter/layerdrop/web/1"),
        ("ssm:DeleteParameter", "arn:aws:ssm:{account}:parameter/another/web-py313-arm64/1"),
        ("lambda:CreateFunction", LAMBDA + "function:{stack}-try-0"),
        ("lambda:InvokeFunction", LAMBDA + "function:{stack}-WriteManifest"),
    ),
    # What code of packages has, while it is tried.
    "TrialRole": (
        *JOB,
        ("s3:GetObject", OBJECT + "layers/0.zip"),
        ("s3:GetObjectVersion", OBJECT + "requirements/arm64/web/requirements.txt"),
        ("s3:PutObject", OBJECT + "builds/x/y/z/1/report.json"),
        ("s3:PutObject", OBJECT + "trials/web-py313-arm64/1.json"),
        ("logs:CreateLogGroup", "arn:aws:logs:{account}:log-group:/aws/lambda/{stack}-try-0"),
        ("logs:PutLogEvents", "arn:aws:logs:{account}:log-group:/aws/lambda/{stack}-try-0:*"),
        ("lambda:ListFunctions", "*"),
        ("lambda:InvokeFunction", LAMBDA + "function:{stack}-try-0"),
    ),
    "WriteManifestRole": (
        *PUBLISHING,
        *UPLOADING,
        ("lambda:DeleteLayerVersion", LAMBDA + "layer:web-py313-arm64:1"),
        ("s3:PutObject", OBJECT + "layers/0.zip"),
        ("s3:PutObject", OBJECT + "claims/web-py313-arm64.json"),
        ("s3:GetObject", OBJECT + "requirements/arm64/web/requirements.txt"),
        ("s3:GetObject", OBJECT + "layers/0.zip"),
        ("states:StopExecution", "arn:aws:states:{account}:execution:{stack}-build-layers:x"),
        ("states:StartExecution", "arn:aws:states:{account}:stateMachine:{stack}-build-layers"),
        ("states:DescribeExecution", "arn:aws:states:{account}:execution:another:x"),
        ("events:PutEvents", "arn:aws:events:{account}:event-bus/another"),
        ("sqs:ReceiveMessage", "arn:aws:sqs:{account}:{stack}-UnansweredBuilds"),
    ),
    "BuildLayersRole": (
        *PUBLISHING,
        *UPLOADING,
        ("lambda:InvokeFunction", LAMBDA + "function:another"),
        ("batch:SubmitJob", "arn:aws:batch:{account}:job-queue/another"),
        ("batch:SubmitJob", "arn:aws:batch:{account}:job-definition/another:1"),
        ("batch:CancelJob", "arn:aws:batch:{account}:job/x"),
        ("events:PutRule", "arn:aws:events:{account}:rule/another"),
        ("states:StartExecution", "arn:aws:states:{account}:stateMachine:{stack}-build-layers"),
        ("s3:GetObject", OBJECT + "builds/x/y/report.json"),
        ("logs:PutLogEvents", "arn:aws:logs:{account}:log-group:/aws/lambda/{stack}/PlanBuild:*"),
    ),
    # CodeBuild, and the function that starts its builds.
    "ProjectRole": (
        *PUBLISHING,
        *UPLOADING,
        ("lambda:GetLayerVersion", LAMBDA + "layer:web-py313-arm64:1"),
        ("ecr:PutImage", "arn:aws:ecr:{account}:repository/another"),
        ("ecr:BatchDeleteImage", "arn:aws:ecr:{account}:repository/{stack}"),
        ("ecr:DeleteRepository", "arn:aws:ecr:{account}:repository/{stack}"),
        ("codebuild:UpdateProject", "arn:aws:codebuild:{account}:project/{stack}"),
        ("s3:GetObject", OBJECT + "layers/0.zip"),
    ),
    "ImageBuilderRole": (
        *PUBLISHING,
        *UPLOADING,
        ("lambda:GetLayerVersion", LAMBDA + "layer:web-py313-arm64:1"),
        ("ecr:PutImage", "arn:aws:ecr:{account}:repository/{stack}"),
        ("codebuild:StartBuild", "arn:aws:codebuild:{account}:project/another"),
        ("codebuild:UpdateProject", "arn:aws:codebuild:{account}:project/{stack}"),
    ),
    # EventBridge, which starts the monthly builds.
    "RenewalRole": (
        *PUBLISHING,
        *UPLOADING,
        ("ecr:PutImage", "arn:aws:ecr:{account}:repository/{stack}"),
        ("codebuild:StartBuild", "arn:aws:codebuild:{account}:project/another"),
        ("codebuild:UpdateProject", "arn:aws:codebuild:{account}:project/{stack}"),
        ("codebuild:StopBuild", "arn:aws:codebuild:{account}:project/{stack}"),
    ),
}
