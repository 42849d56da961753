"""Locks of builds that succeeded: who gets them again, and who does not."""

from collections.abc import Callable
from typing import Any

import pytest

from layerdrop.errors import BuildError, ErrorCode
from layerdrop.locks import lock_id

KEY = "requirements/arm64/web/requirements.txt"
FIXED = b"# /// layer\n# refresh = false\n# ///\nrequests\n"
Call = Callable[..., Any]


class Pipeline:
    """Takes an upload through the functions, as far as is asked; what a job leaves is its lock's text."""

    def __init__(self, account: Any, handler: Call, build: Call) -> None:
        self.account, self.handler, self.build = account, handler, build
        self.number = 0

    def plan(self, content: bytes, key: str = KEY) -> dict[str, Any]:
        self.number += 1
        build_input = self.account.upload(key, content, f"{self.number:02}")
        arn = f"arn:aws:states:us-east-1:123456789012:execution:layers:web-{self.number}"
        execution = {"arn": arn, "name": f"web-{self.number}", "started": "2026-11-20T10:00:00.123Z"}
        state: dict[str, Any] = self.handler(
            "plan_build", {"input": build_input.to_json(), "execution": execution}
        )
        return state

    def publish(self, state: dict[str, Any], lock: str | None, attempt: int = 1) -> dict[str, Any]:
        (target,) = state["targets"]
        self.build(target, attempt=attempt)
        if lock is not None:
            place = f"{target['staging']}{attempt}/pylock.toml"
            self.account.s3.put_object(Bucket=self.account.bucket, Key=place, Body=lock.encode())
        given = {"input": state["input"], "target": target}
        published = self.handler("publish_layer", given | {"released_by": "ReleaseLayer"})
        return given | {"published": published}

    def release(self, content: bytes, lock: str | None, key: str = KEY) -> None:
        self.handler("release_layer", self.publish(self.plan(content, key), lock))

    def read_by(self, state: dict[str, Any]) -> str:
        """What the job of a plan is told to build from."""
        (target,) = state["targets"]
        (place,) = (word for word in target["job"]["command"] if word.startswith("--path="))
        key = place.removeprefix(f"--path=s3://{self.account.bucket}/")
        version = [word for word in target["job"]["command"] if word.startswith("--version-id=")]
        assert bool(version) == key.startswith("requirements/")
        body: bytes = self.account.s3.get_object(Bucket=self.account.bucket, Key=key)["Body"].read()
        assert key.startswith("requirements/") or (
            key.startswith("plans/") and key.endswith("/pylock.toml") and len(key.split("/")[-2]) >= 24
        )
        return body.decode()


@pytest.fixture
def pipeline(account: Any, handler: Call, build: Call) -> Pipeline:
    return Pipeline(account, handler, build)


def test_the_same_content_is_built_from_the_last_lock_that_succeeded(pipeline: Pipeline) -> None:
    assert pipeline.read_by(pipeline.plan(FIXED)) == FIXED.decode()
    pipeline.release(FIXED, "first")
    assert pipeline.read_by(pipeline.plan(FIXED)) == "first"
    pipeline.release(FIXED, "second")
    assert pipeline.read_by(pipeline.plan(FIXED)) == "second"


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("key", "content"),
    [
        (KEY, FIXED + b"# one more line\n"),
        (KEY, b"requests\n"),
        (KEY, FIXED.replace(b"false", b"true")),
        ("requirements/arm64/other/requirements.txt", FIXED),
        ("requirements/x86_64/web/requirements.txt", FIXED),
        ("requirements/arm64/python3.12/web/requirements.txt", FIXED),
    ],
)
@pytest.mark.attack("uploader: the lock of another file, or of other content")
def test_nobody_else_is_given_it(pipeline: Pipeline, key: str, content: bytes) -> None:
    pipeline.release(FIXED, "first")
    assert pipeline.read_by(pipeline.plan(content, key)) == content.decode()


def test_what_was_published_and_not_released_is_not_taken_again(pipeline: Pipeline) -> None:
    """It did not pass its trial: the same lock would only fail again."""
    pipeline.publish(pipeline.plan(FIXED), "bad")
    assert pipeline.read_by(pipeline.plan(FIXED)) == FIXED.decode()
    pipeline.release(FIXED, "good")
    pipeline.publish(pipeline.plan(FIXED), "bad")
    assert pipeline.read_by(pipeline.plan(FIXED)) == "good"


def test_each_execution_keeps_its_own(pipeline: Pipeline) -> None:
    """Another one's may not have passed its trial, when this one is released."""
    first = pipeline.publish(pipeline.plan(FIXED), "first")
    pipeline.handler("release_layer", first)
    second = pipeline.plan(FIXED)
    pipeline.publish(second, "second")
    with pytest.raises(BuildError):  # it is not the newest upload any more
        pipeline.publish({**second, "input": first["input"]}, "third")
    assert pipeline.read_by(pipeline.plan(FIXED)) == "first"


def test_the_lock_is_that_of_the_attempt_that_succeeded(pipeline: Pipeline) -> None:
    state = pipeline.plan(FIXED)
    place = f"{state['targets'][0]['staging']}1/pylock.toml"
    pipeline.account.s3.put_object(Bucket=pipeline.account.bucket, Key=place, Body=b"of an earlier attempt")
    pipeline.handler("release_layer", pipeline.publish(state, "of the last", attempt=2))
    assert pipeline.read_by(pipeline.plan(FIXED)) == "of the last"


def test_a_job_that_leaves_none_has_its_layer_all_the_same(pipeline: Pipeline) -> None:
    pipeline.release(FIXED, None)
    assert pipeline.read_by(pipeline.plan(FIXED)) == FIXED.decode()


def test_without_the_setting_nothing_is_kept(pipeline: Pipeline) -> None:
    pipeline.release(b"requests\n", "first")
    assert "Contents" not in pipeline.account.s3.list_objects_v2(
        Bucket=pipeline.account.bucket, Prefix="locks/"
    )


@pytest.mark.attack("a job leaves a lock that is too large to hand on")
def test_a_lock_that_is_too_large_is_none(pipeline: Pipeline) -> None:
    pipeline.release(FIXED, "x" * (8 * 1024 * 1024 + 1))
    assert pipeline.read_by(pipeline.plan(FIXED)) == FIXED.decode()


@pytest.mark.attack("code of a source writes the lock of all builds to come")
def test_a_build_from_source_keeps_none(pipeline: Pipeline) -> None:
    with pytest.raises(BuildError) as caught:
        pipeline.plan(b'# /// layer\n# refresh = false\n# allow-sdist = ["x"]\n# ///\nrequests\n')
    assert caught.value.problem.code == ErrorCode.SETTINGS_INVALID
    assert "allow-sdist" in caught.value.problem.message


def test_ids_are_of_all_three() -> None:
    given = [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("b", "a", "c")]
    assert len({lock_id(*one) for one in given}) == len(given)
