from pathlib import Path

from atolld.daemon.settings import Settings
from atolld.daemon.settings_doc import markdown

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_made_from_the_settings() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "run `python -m atolld.daemon.settings_doc docs/configuration.md`"
    )


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"| `{name}` |" in markdown()
    assert "|  |" not in markdown()
