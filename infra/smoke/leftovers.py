"""What a run leaves beside a stack: layers, their pointers, objects."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from smoke.cases import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import boto3


class LeftoverError(Exception):
    """Something could not be deleted."""


def stem_of(stack: str) -> str:
    """Return what a run's folders, layers, functions and role begin with, by its stack's name."""
    return stack.removeprefix("layerdrop-")


def delete_trials(session: boto3.Session, stem: str) -> None:
    """Delete the functions that import layers and their role, where a run could not.

    Raises:
        ClientError: One cannot be deleted.
    """
    client, iam = session.client("lambda"), session.client("iam")
    pages = client.get_paginator("list_functions").paginate()
    names = [function["FunctionName"] for page in pages for function in page["Functions"]]
    for name in names:
        if name.startswith(f"{stem}-"):
            client.delete_function(FunctionName=name)
    with suppress(iam.exceptions.NoSuchEntityException):
        iam.delete_role(RoleName=stem)


def layers_called(session: boto3.Session, prefix: str) -> Iterator[str]:
    """Return the names of all layers that begin with a prefix."""
    for page in session.client("lambda").get_paginator("list_layers").paginate():
        yield from (layer["LayerName"] for layer in page["Layers"] if layer["LayerName"].startswith(prefix))


def delete_layers(session: boto3.Session, names: Iterable[str]) -> None:
    """Delete layers with all their versions and pointers.

    Raises:
        ClientError: One cannot be deleted.
    """
    client, ssm = session.client("lambda"), session.client("ssm")
    for name in names:
        pages = client.get_paginator("list_layer_versions").paginate(LayerName=name)
        for version in [each["Version"] for page in pages for each in page["LayerVersions"]]:
            client.delete_layer_version(LayerName=name, VersionNumber=version)
        below = ssm.get_paginator("get_parameters_by_path").paginate(
            Path=f"/layerdrop/{name}", Recursive=True
        )
        parameters = [f"/layerdrop/{name}", *(each["Name"] for page in below for each in page["Parameters"])]
        for start in range(0, len(parameters), 10):
            ssm.delete_parameters(Names=parameters[start : start + 10])


def delete_objects(session: boto3.Session, bucket: str, prefix: str) -> None:
    """Delete all versions of all objects whose keys begin with a prefix.

    Raises:
        LeftoverError: S3 kept some.
    """
    pages = session.resource("s3").Bucket(bucket).object_versions.filter(Prefix=prefix).delete()
    kept = [error for page in pages for error in page.get("Errors", ())]
    if kept:
        raise LeftoverError(f"s3://{bucket}/{kept[0].get('Key')}: {kept[0].get('Message')}")


def delete_bucket(session: boto3.Session, bucket: str) -> None:
    """Delete a bucket with all that is in it; none is fine."""
    try:
        delete_objects(session, bucket, "")
        session.client("s3").delete_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


def delete_builds(session: boto3.Session, bucket: str, prefix: str) -> None:
    """Delete what builds left in a stack that stays: layers, pointers, inputs, answers, claims and reports.

    The zips below ``layers/`` stay: they are called by their content, which others may have built as well.

    Args:
        session: The account.
        bucket: The stack's.
        prefix: What the run's folders and layers begin with.

    Raises:
        ClientError: Something cannot be deleted.
    """
    delete_trials(session, prefix)
    delete_layers(session, list(layers_called(session, prefix)))
    for folder in ("claims", "trials", "catalogue/releases"):
        delete_objects(session, bucket, f"{folder}/{prefix}")
    for architecture in ARCHITECTURES:
        delete_objects(session, bucket, f"requirements/{architecture}/{prefix}")
        # An execution is called after the key, in letters, digits and hyphens.
        for folder in ("builds", "plans"):
            delete_objects(session, bucket, f"{folder}/{architecture.replace('_', '-')}-{prefix}")
