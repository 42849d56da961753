"""What a throw-away function answered, read as what it is: words of a process in which others' code ran.

That code could answer in the function's place, and print whatever it likes. So an answer counts only in
exactly the form that `trial_function` gives it, and only of modules that were asked for; numbers are bounded,
texts are cut, and shown escaped. What this cannot tell is a lie in the right form: a package that says of
its own layer that it can be imported harms who requires it, and nobody else.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from layerdrop import wording

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_BYTES = 6 << 20
"""Of an answer: Lambda takes no longer ones."""

_TEXT, _NAME, _CAUSES = 2000, 200, 10  # characters; causes of one error
_MAX_MS = 15 * 60 * 1000.0  # no function runs for longer
_MAX_MB = 10_240  # nor has more: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html


@dataclass(frozen=True)
class ImportFailure:
    """Why an import failed.

    Attributes:
        type: the exception's class; empty if the function ended.
        text: its words, or how the function ended.
        file: where it was raised, within the layer's modules; empty if elsewhere.
        line: there, from 1; 0 if unknown.
        causes: the exceptions behind it, as `type: text`.
        missing: the module that was not found, if that is what it says.
        standard: whether that is one of the standard library.
    """

    type: str
    text: str
    file: str = ""
    line: int = 0
    causes: tuple[str, ...] = ()
    missing: str = ""
    standard: bool = False


@dataclass(frozen=True)
class Answer:
    """What an invocation came to.

    Attributes:
        imported: milliseconds of each module that was imported.
        failed: the modules that were not.
        ended: how the function ended instead of answering, in Lambda's words; empty if it answered.
        at: the module whose import it was at then, as far as the log tells.
        init_ms: of its start, before it was invoked; None where Lambda does not tell.
        memory_mb: most that it used; None where Lambda does not tell.
        output: the end of its log.
    """

    imported: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, ImportFailure] = field(default_factory=dict)
    ended: str = ""
    at: str = ""
    init_ms: float | None = None
    memory_mb: int | None = None
    output: str = ""


def read(payload: bytes, log: bytes, wanted: Collection[str], mark: str, *, is_error: bool) -> Answer:
    """Read an invocation's response.

    Args:
        payload: what the function answered, or Lambda in its place.
        log: the end of its log, at most 4 KB.
        wanted: the modules it was to import.
        mark: what begins the lines that tell which module is begun.
        is_error: whether Lambda says that the function failed (X-Amz-Function-Error).
    """
    text = log.decode("utf-8", errors="replace")
    told = _report(text)
    output = wording.visible(text)
    if is_error:
        return Answer(ended=_ending(payload), at=_begun(text, mark, wanted), output=output, **told)
    answers = _object(payload).get("modules") if len(payload) <= MAX_BYTES else None
    imported: dict[str, float] = {}
    failed: dict[str, ImportFailure] = {}
    for one in answers if isinstance(answers, list) else ():
        match one:
            case {"module": str() as module, "ms": ms} if len(one) == 2 and module in wanted and _is_ms(ms):
                imported[module] = round(float(ms), 1)
            case {"module": str() as module, "error": error} if len(one) == 2 and module in wanted:
                if found := _failure(error):
                    failed.setdefault(module, found)
    # An error is not taken back, and what nothing is said of was not imported.
    imported = {module: ms for module, ms in imported.items() if module not in failed}
    ended = "" if imported.keys() | failed.keys() >= set(wanted) else "it did not answer what it was asked"
    return Answer(imported, failed, ended, _begun(text, mark, wanted) if ended else "", output=output, **told)


def _object(text: bytes | str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_ms(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= _MAX_MS


_REQUIRED: Mapping[str, type] = {"type": str, "text": str, "causes": list}
_OPTIONAL: Mapping[str, type] = {"file": str, "line": int, "missing": str, "standard": bool}


def _failure(told: Any) -> ImportFailure | None:
    types = {**_REQUIRED, **_OPTIONAL}
    if not isinstance(told, dict) or not _REQUIRED.keys() <= told.keys() <= types.keys():
        return None
    if any(type(value) is not types[name] for name, value in told.items()):
        return None
    if not all(isinstance(cause, str) for cause in told["causes"]):
        return None
    return ImportFailure(
        type=_clean(told["type"], _NAME) or "an exception without a name",
        text=_clean(told["text"], _TEXT),
        file=_clean(told.get("file", ""), _NAME),
        line=min(max(told.get("line", 0), 0), 1 << 31),
        causes=tuple(_clean(cause, _TEXT) for cause in told["causes"][:_CAUSES]),
        missing=_clean(told.get("missing", ""), _NAME),
        standard=told.get("standard", False),
    )


def _clean(text: str, longest: int) -> str:
    return wording.visible(text[:longest])


_REQUEST = re.compile(r"^(?:\d{4}-\d\d-\d\dT[\d:.]+Z )?(?:RequestId: )?[0-9a-f-]{36} (?:Error: )?")


def _ending(payload: bytes) -> str:
    """How the function ended, as Lambda tells it: `{"errorMessage": …, "errorType": …}`.

    https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
    """
    told = _object(payload[:MAX_BYTES])
    words = (told.get("errorType"), told.get("errorMessage"))
    kind, text = (word[:_TEXT] if isinstance(word, str) else "" for word in words)
    text = _REQUEST.sub("", text)
    return _clean(": ".join(dict.fromkeys(filter(None, (kind, text)))), _TEXT) or "it failed and said nothing"


# https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
_REPORT = re.compile(r"^REPORT RequestId: .*$", re.MULTILINE)
_INIT = re.compile(r"\tInit Duration: (\d{1,9}(?:\.\d{1,6})?) ms")
_MEMORY = re.compile(r"\tMax Memory Used: (\d{1,9}) MB")


def _report(log: str) -> dict[str, Any]:
    """What Lambda's own line tells, which is the last of its kind: after it, no code of the function runs."""
    line = (_REPORT.findall(log) or [""])[-1]
    init, memory = _INIT.search(line), _MEMORY.search(line)
    return {
        "init_ms": min(float(init[1]), _MAX_MS) if init else None,
        "memory_mb": min(int(memory[1]), _MAX_MB) if memory else None,
    }


def _begun(log: str, mark: str, wanted: Collection[str]) -> str:
    """The module that was begun last; the one before may have left its last line open."""
    begun = re.findall(rf"{re.escape(mark)} (\S+)$", log, re.MULTILINE)
    return next((module for module in reversed(begun) if module in wanted), "")
