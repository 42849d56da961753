from dataclasses import fields

import pytest

from layer_builder import cli
from layerdrop.settings import Settings, parse
from layerdrop_client import settings_block
from layerdrop_client.problems import CommandError

BLOCK = """\
# /// layer
# name = "web"
# runtimes = ["python3.12", "python3.13"]
# constraints = ["urllib3<2", "idna<4"]
# bytecode = false
# fit = true
# slim = true
# size-limit = 1000
# share-with = ["111122223333"]
# ///
requests
"""


def test_settings_become_the_builders_options() -> None:
    parse(BLOCK)  # which the pipeline takes
    asked = settings_block.read(BLOCK)
    assert asked.runtimes == ("python3.12", "python3.13")
    assert asked.left == ("share-with",)
    options = cli.parse(["--path=requirements.txt", *asked.options])
    assert "urllib3<2" in str(options)
    assert asked.options == (
        "--name=web",
        "--constraint=urllib3<2",
        "--constraint=idna<4",
        "--no-bytecode",
        "--slim",
        "--size-limit=1000",
    )


def test_every_setting_of_the_pipeline_is_known_here() -> None:
    known = {"runtimes", *settings_block._OPTIONS, *settings_block._OF_A_STACK}
    known |= {name for name, _ in settings_block._FLAGS}
    assert known == {field.name.replace("_", "-") for field in fields(Settings)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# /// layer\n# a = 1\n", "not closed"),
        ("# /// layer\n# a = \n# ///\n", "not valid TOML"),
        ('# /// layer\n# runtime = "x"\n# ///\n', '"runtime" is no setting'),
    ],
)
def test_what_is_no_settings_block_is_told(text: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        settings_block.read(text)


def test_a_file_without_a_block_asks_for_nothing() -> None:
    assert settings_block.read("requests\n") == settings_block.Asked()
