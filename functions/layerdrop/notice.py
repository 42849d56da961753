"""What a chat channel and a mail say of a failed build: a custom notification of Amazon Q Developer.

Other messages it drops without a word:
https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# What chats would make a link or a call for everybody of: <!channel>, <http://x|y>, <@U1>, [x](http://x).
# Comparisons as in numpy<2 stay.
_MARKUP = re.compile(r"<(?=[!@#/A-Za-z])|\](?=\()")


def notice(
    build_input: Mapping[str, Any], manifest: Mapping[str, Any], error: Mapping[str, str]
) -> dict[str, Any]:
    """The notification, which EventBridge hands on as it is: it escapes nothing that it puts into a text.

    Args:
        build_input: The manifest's `input`.
        manifest: Bucket and key of the manifest.
        error: Code, message and hint.
    """
    return {
        "version": "1.0",
        "source": "custom",
        "content": {
            "textType": "client-markdown",
            "title": f"No layer could be made from {_plain(build_input['key'])}",
            "description": f"{error['code']}: {_plain(error['message'])}",
            "nextSteps": [
                *([_plain(error["hint"])] if error["hint"] else []),
                f"The whole answer: s3://{manifest['bucket']}/{_plain(manifest['key'])}",
            ],
        },
    }


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\g<0> ", text)
