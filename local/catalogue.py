"""The catalogue on the embedded AWS: written once at the start, shown at an address, kept after a demo."""

import gzip
import json
import logging
from pathlib import Path
from typing import Final

from local.deploy import Deployment
from local.server import EmbeddedAws
from local.settings import BUCKET
from local.signatures import presigned

logger = logging.getLogger(__name__)

PAGE: Final = "catalogue/index.html"
SWEEP: Final = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
A_WEEK: Final = 7 * 24 * 60 * 60
"""The longest that an address can be presigned for:
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""


def write(aws: EmbeddedAws, stack: Deployment) -> bool:
    """Have the catalogue written from what there is; tell whether it was."""
    function = stack.all_values()["Catalogue.UpdateCatalogue"]
    answer = aws.clients.lambda_.invoke(FunctionName=function, Payload=json.dumps(SWEEP))
    if "FunctionError" in answer:
        logger.error("The catalogue was not written: %s", answer["Payload"].read().decode(errors="replace"))
    return "FunctionError" not in answer


def address(aws: EmbeddedAws) -> str:
    """Return where a browser finds the page, for a week."""
    return presigned(f"{aws.endpoint}/{BUCKET}/{PAGE}", aws.keys.owner, A_WEEK)


def keep(aws: EmbeddedAws, folder: Path) -> Path:
    """Leave the page in a folder, as browsers read it from a disk."""
    with aws.clients.s3.get_object(Bucket=BUCKET, Key=PAGE)["Body"] as body:
        page = gzip.decompress(body.read())
    path = folder / "catalogue.html"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page)
    return path
