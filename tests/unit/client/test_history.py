from layerdrop_client.history import STEPS, State, in_words, read
from tests.execution_history import History


def two_targets() -> History:
    history = History()
    history.enter("PlanBuild")
    history.leave("PlanBuild")
    started = history.enter(
        "BuildLayers", given='{"targets": [{"id": "py312-arm64"}, {"id": "py313-arm64"}]}'
    )
    first = history.add("MapIterationStarted", started, mapIterationStartedEventDetails={"index": 0})
    second = history.add("MapIterationStarted", started, mapIterationStartedEventDetails={"index": 1})
    first, second = history.enter("ResolveLayer", first), history.enter("BuildLayer", second)
    second = history.add("TaskSubmitted", second, taskSubmittedEventDetails={"output": '{"JobId": "job-2"}'})
    first = history.add("TaskFailed", first)
    history.leave("ResolveLayer", first)
    return history


def test_each_target_has_its_own_steps() -> None:
    progress = read(two_targets().events, lambda job: f"{job} queued")
    assert (progress.shared["PlanBuild"].state, progress.shared["PlanBuild"].seconds) == (State.DONE, 1.0)
    assert progress.shared["WriteManifest"].state is State.WAITING
    failed, running = (
        progress.targets["py312-arm64"]["ResolveLayer"],
        progress.targets["py313-arm64"]["BuildLayer"],
    )
    assert (failed.state, failed.seconds) == (State.FAILED, 4.0)
    assert (running.state, running.note) == (State.RUNNING, "job-2 queued")
    names = [name for name, _ in progress.rows("arm64/web")]
    assert names == ["arm64/web py312", "arm64/web py313"]
    assert all(set(STEPS) == set(steps) for _, steps in progress.rows("arm64/web"))


def test_a_failed_try_that_is_followed_by_another_is_no_failure() -> None:
    history = History()
    history.enter("PlanBuild")
    for kind in ("TaskScheduled", "TaskFailed", "TaskScheduled"):
        history.add(kind)
    assert read(history.events, str).shared["PlanBuild"].state is State.RUNNING
    history.leave("PlanBuild")
    assert read(history.events, str).shared["PlanBuild"].state is State.DONE


def test_a_history_of_which_only_the_beginning_is_there_can_be_read() -> None:
    events = two_targets().events
    for length in range(len(events) + 1):
        read(events[:length], str)


def test_jobs_are_told_in_a_word() -> None:
    assert [in_words(state) for state in ("RUNNABLE", "STARTING", "RUNNING")] == [
        "queued",
        "starting",
        "building",
    ]
