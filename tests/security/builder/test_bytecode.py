"""Small wheels whose modules take gigabytes, or for ever, to compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.layer.bytecode import Compiler
from tests.unit.builder.wheel_maker import make_wheel

if TYPE_CHECKING:
    from tests.security.builder.conftest import Build
    from tests.unit.builder.wheel_maker import Index

PEAK = 300_000_000

# 16 MB of source each, 15 kB in a wheel, for which a compiler without limits takes 2 to 8 GB.
HUNGRY = {
    "statements": "a=1\n" * 4_000_000,
    "a list": "x=[" + "a," * 8_000_000 + "]\n",
    "a dictionary": "x={" + "a:a," * 4_000_000 + "}\n",
    "calls": "f()\n" * 4_000_000,
    "functions": "def f():0\n" * 1_600_000,
    "comparisons": "x=" + "a<" * 8_000_000 + "a\n",
    "additions": "x=" + "a+" * 8_000_000 + "a\n",
    "attributes": "a" + ".a" * 8_000_000 + "\n",
}


@pytest.fixture
def runtime() -> str:
    """Give a runtime whose Python is at hand."""
    for name in reversed(RUNTIMES):
        if Compiler.find(Target.of(name, "arm64")):
            return name
    pytest.skip("there is no Python of any of Lambda's versions on this machine")


@pytest.mark.sample(2)
@pytest.mark.attack("a wheel of 17 kB with a module that takes up to 7.7 GB to compile")
@pytest.mark.parametrize("kind", HUNGRY)
def test_a_module_that_takes_gigabytes_to_compile(
    index: Index, build: Build, runtime: str, kind: str
) -> None:
    files = {"evil/__init__.py": "x = 1\n", "evil/big.py": HUNGRY[kind], "evil/small.py": "x = 2\n"}
    make_wheel(index.folder, "evil", files=files)
    answer = build("-r", "evil", "--bytecode", "--runtime", runtime)
    assert answer.status == 0, answer.stderr
    assert answer.peak < PEAK, f"{answer.peak:,} bytes"
    check = answer.report["checks"]["bytecode"]
    assert (check["modules"], check["too_large"]) == (2, ["evil/big.py"])
    assert [one for one in answer.report["warnings"] if "evil/big.py (evil)" in one and "memory" in one]
    again = build("-r", "evil", "--bytecode", "--runtime", runtime)  # from the cache
    assert again.report["checks"]["bytecode"] == check
    assert again.report["warnings"] == answer.report["warnings"]


@pytest.mark.long
@pytest.mark.attack("a wheel of 15 kB with a module that takes hours to compile")
def test_a_module_that_takes_hours_to_compile(index: Index, build: Build, runtime: str) -> None:
    if runtime == "python3.11":
        pytest.skip("Python 3.11 compiles it in seconds")
    make_wheel(index.folder, "evil", files={"evil.py": "x=f'" + "{a}" * 5_000_000 + "'\n"})
    answer = build("-r", "evil", "--bytecode", "--runtime", runtime)
    assert answer.status == 0, answer.stderr
    check = answer.report["checks"]["bytecode"]
    assert check["status"] == "skipped"
    assert "evil" in check["reason"]
    assert answer.peak < PEAK, f"{answer.peak:,} bytes"


@pytest.mark.attack("a module of an odd name whose bytecode no file system could take")
def test_bytecode_of_a_name_that_is_too_long(index: Index, build: Build, runtime: str) -> None:
    make_wheel(index.folder, "evil", files={"evil.py": "", "evil_" + "x" * 245 + ".py": "x = 1\n"})
    answer = build("-r", "evil", "--bytecode", "--runtime", runtime)
    assert answer.status == 0, answer.stderr
    assert answer.report["checks"]["bytecode"]["modules"] == 1


@pytest.mark.long
def test_large_modules_that_people_write_are_compiled(index: Index, build: Build, runtime: str) -> None:
    """Much source of little sameness, as generators write it for the AWS CDK or Azure."""
    lines = "".join(f"def function_{n:x}(a{n}, b): return {{'key{n * 7919:x}': a{n} + b, 'x': [{n}]}}\n"
                    for n in range(40_000))  # fmt: skip
    make_wheel(index.folder, "large", files={"large.py": lines})
    answer = build("-r", "large", "--bytecode", "--runtime", runtime, "--no-import-check")
    assert answer.report["checks"]["bytecode"]["too_large"] == []
    assert answer.report["checks"]["bytecode"]["modules"] == 1
