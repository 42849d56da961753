arn=$(aws ssm get-parameter --name /layerdrop/web-py313-arm64 --query Parameter.Value --output text)
aws lambda update-function-configuration --function-name web --layers $arn
