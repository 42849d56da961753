"""What a chat channel and a mail say of a failed build, and of what is known against a layer.

It is a custom notification of Amazon Q Developer, which drops all else without a word:
https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    return custom(
        f"No layer could be made from {plain(build_input['key'])}",
        f"{error['code']}: {plain(error['message'])}",
        [
            *([plain(error["hint"])] if error["hint"] else []),
            f"The whole answer: s3://{manifest['bucket']}/{plain(manifest['key'])}",
        ],
    )


def custom(title: str, description: str, next_steps: Sequence[str]) -> dict[str, Any]:
    """The form of such a notification; what others wrote in it has to be `plain`."""
    return {
        "version": "1.0",
        "source": "custom",
        "content": {
            "textType": "client-markdown",
            "title": title,
            "description": description,
            "nextSteps": list(next_steps),
        },
    }


def plain(text: str) -> str:
    """The text with nothing in it that a chat would make a link or a call of."""
    return _MARKUP.sub(r"\g<0> ", text)
