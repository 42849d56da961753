// app.mjs
import { App, Stack, aws_lambda as lambda, aws_ssm as ssm } from "aws-cdk-lib";

const stack = new Stack(new App(), "Web", { env: { account: "111122223333", region: "eu-central-1" } });
const arn = ssm.StringParameter.valueFromLookup(stack, "/layerdrop/web-py313-arm64");
new lambda.Function(stack, "Function", {
  runtime: lambda.Runtime.PYTHON_3_13,
  architecture: lambda.Architecture.ARM_64,
  handler: "main.handler",
  code: lambda.Code.fromInline("def handler(event, context): pass"),
  layers: [lambda.LayerVersion.fromLayerVersionArn(stack, "WebLayer", arn)],
});
