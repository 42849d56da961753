"""Which layer versions the account's functions use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

# A page has 50 functions at most: https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html
# Accounts with thousands of versions are looked through within ReleaseLayer's two minutes, or not at all.
_PATIENCE_SECONDS = 45


@dataclass(frozen=True)
class LayerUsers:
    """The functions of this account and region: nobody else can use a layer that is not shared.

    Attributes:
        lambda_client: for ListFunctions.
        patience: seconds to look for.
    """

    lambda_client: LambdaClient
    patience: float = _PATIENCE_SECONDS

    def used(self) -> frozenset[str] | None:
        """The ARNs of all layer versions that a function has, published versions of functions included.

        None when that could not be found out: Lambda did not answer, or not in time.
        """
        deadline = time.monotonic() + self.patience
        found: set[str] = set()
        try:
            for page in self.lambda_client.get_paginator("list_functions").paginate(FunctionVersion="ALL"):
                for function in page["Functions"]:
                    found.update(layer["Arn"] for layer in function.get("Layers", ()))
                if time.monotonic() > deadline:
                    return None
        except (ClientError, BotoCoreError):
            return None
        return frozenset(found)
