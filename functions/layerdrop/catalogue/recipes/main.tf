# main.tf
data "aws_ssm_parameter" "web_layer" {
  name = "/layerdrop/web-py313-arm64"
}

resource "aws_lambda_function" "web" {
  function_name = "web"
  role          = aws_iam_role.web.arn
  runtime       = "python3.13"
  architectures = ["arm64"]
  handler       = "main.handler"
  filename      = "web.zip"
  layers        = [data.aws_ssm_parameter.web_layer.insecure_value]
}
