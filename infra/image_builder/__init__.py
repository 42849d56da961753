"""The custom resource of infra/image.yaml: an image in ECR, built by CodeBuild while the stack is deployed.

A build takes minutes, and a Lambda function should not wait for it. So the function that CloudFormation asks
starts the build and says nothing; the build carries along where the answer belongs; and when it ends, either
way, its event brings the function back to give it. Nothing is stored and nothing polls.

One resource is one image for one architecture: CloudFormation makes several at once and waits for all.
"""
