"""``make release``, as a command against the embedded AWS's bucket."""

import json
import os
import subprocess
import time

import pytest
from stack import release
from stack.inventory import Place
from stack.release import ReleaseError

from layerdrop.claims import Claim, ClaimStore
from layerdrop.errors import BuildError
from local.settings import ROOT

from .owner import Owner

NAME = "team-a-web-py313-arm64"
MINE = "requirements/arm64/team-a/web/requirements.txt"
THEIRS = "requirements/arm64/team-b/web/requirements.txt"


@pytest.fixture
def store(deployed: Owner) -> ClaimStore:
    made = ClaimStore(deployed.aws.clients.s3, "kept")
    made.claim([NAME], MINE)
    return made


def free(store: ClaimStore) -> bool:
    try:
        store.claim([NAME], THEIRS)
    except BuildError:
        return False
    return True


def test_a_name_is_released_and_is_then_the_next_one_s(deployed: Owner, store: ClaimStore) -> None:
    done = deployed.run("release", NAME, answer="release\n")
    assert done.returncode == 0, done.stderr
    said, _, after = done.stdout.partition("Type release to go on")
    assert f"{NAME} belongs to {MINE}, which is not there any more." in said
    assert "/layerdrop/NAME" in said
    assert f"{NAME} is free: upload the file" in after
    assert free(store)
    with pytest.raises(BuildError, match="LAYER_NAME_TAKEN"):
        store.claim([NAME], MINE)


def test_what_was_made_under_a_released_name_is_still_known(deployed: Owner, store: ClaimStore) -> None:
    deployed.run("release", NAME, answer="release\n")
    assert NAME in deployed.run("delete", answer="no\n").stdout


def test_of_a_file_that_is_there_it_says_that_it_may_come_back(deployed: Owner, store: ClaimStore) -> None:
    deployed.aws.clients.s3.put_object(Bucket="kept", Key=MINE, Body=b"requests\n")
    done = deployed.run("release", NAME, answer="release\n")
    assert f"{MINE}, which is still there." in done.stdout
    assert f"{MINE} claims it again with its next upload" in done.stdout
    assert free(store)


def test_several_are_released_as_make_passes_them(deployed: Owner, store: ClaimStore) -> None:
    store.claim(["second-py313-arm64"], MINE)
    done = deployed.run("release", f"{NAME} second-py313-arm64", answer="release\n")
    assert done.returncode == 0, done.stderr
    store.claim([NAME, "second-py313-arm64"], THEIRS)


@pytest.mark.sample(1)
@pytest.mark.parametrize("answer", ["", "\n", "y\n", "yes\n", f"{NAME}\n"])
def test_nothing_but_the_word_releases(deployed: Owner, store: ClaimStore, answer: str) -> None:
    done = deployed.run("release", NAME, answer=answer)
    assert done.returncode == 1
    assert "Nothing was released." in done.stdout
    assert not free(store)


def test_a_name_being_published_is_not_released(deployed: Owner, store: ClaimStore) -> None:
    with store.held(NAME, MINE, "publisher", 60):
        done = deployed.run("release", NAME, answer="release\n")
    assert done.returncode == 1
    assert f"A build of {MINE} is publishing {NAME} at this moment" in done.stderr
    assert "Type release" not in done.stdout
    assert not free(store)


def test_a_publisher_that_died_does_not_keep_a_name(deployed: Owner, store: ClaimStore) -> None:
    store._write(NAME, store._read(NAME)[0], Claim(MINE, "dead", time.time() - 1))
    assert deployed.run("release", NAME, answer="release\n").returncode == 0
    assert free(store)


def test_a_name_whose_file_is_being_built_is_not_released(deployed: Owner, store: ClaimStore) -> None:
    """Its PublishLayer would take the name back, or fail after a build of an hour."""
    machines = deployed.aws.clients.stepfunctions
    [machine] = [
        machine["stateMachineArn"]
        for machine in machines.list_state_machines()["stateMachines"]
        if machine["name"] == "removable"
    ]
    started = {
        key: machines.start_execution(
            stateMachineArn=machine, name=name, input=json.dumps({"input": {"key": key}})
        )["executionArn"]
        for key, name in ((THEIRS, "another"), (MINE, "web-1234"))
    }
    done = deployed.run("release", NAME, answer="release\n")
    assert done.returncode == 1
    assert f"A build of {MINE}, which owns {NAME}, is under way" in done.stderr
    assert "web-1234" in done.stderr
    assert not free(store)
    machines.stop_execution(executionArn=started[MINE])
    assert deployed.run("release", NAME, answer="release\n").returncode == 0


def test_a_claim_that_cannot_be_read_is_released(deployed: Owner, store: ClaimStore) -> None:
    deployed.aws.clients.s3.put_object(Bucket="kept", Key=f"claims/{NAME}.json", Body=b"{}")
    assert not free(store)
    done = deployed.run("release", NAME, answer="release\n")
    assert done.returncode == 0, done.stderr
    assert "cannot be read" in done.stdout
    assert free(store)


def test_a_name_that_nobody_has_is_said_with_those_that_begin_like_it(
    deployed: Owner, store: ClaimStore
) -> None:
    done = deployed.run("release", "team-a-web", answer="release\n")
    assert done.returncode == 1
    assert f"There are: {NAME}." in done.stderr
    deployed.run("release", NAME, answer="release\n")
    assert f"{NAME} is free already" in deployed.run("release", NAME, answer="release\n").stderr


def change(how: str, store: ClaimStore) -> None:
    if how == "deleted":
        store.s3.delete_object(Bucket="kept", Key=f"claims/{NAME}.json")
    else:
        store._take(NAME, MINE, "publisher", 60)


@pytest.mark.parametrize("how", ["deleted", "held"])
def test_a_claim_that_changes_between_look_and_release_stays(
    deployed: Owner, store: ClaimStore, how: str
) -> None:
    place = Place("kept", None)
    looked = release.look(deployed.session, place, NAME)
    change(how, store)
    with pytest.raises(ReleaseError, match="nothing was released"):
        release.release(deployed.session, place, looked)
    assert how == "deleted" or not free(store)


def test_make_asks_for_a_name() -> None:
    done = subprocess.run(
        ["make", "--silent", "--assume-old=.venv/run.stamp", "release"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "make release NAME=web-py313-arm64" in done.stderr
