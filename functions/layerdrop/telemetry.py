"""Logs, traces and metrics, the same for each function; the template names service, namespace and level."""

from __future__ import annotations

from aws_lambda_powertools import Logger, Metrics, Tracer

logger = Logger()
# Nothing but calls to AWS is worth a subsegment; patching every library known would cost start-up time.
tracer = Tracer(patch_modules=["botocore"])
metrics = Metrics()
