import pytest

from atolld.api.native.query import metadata_filter, sandbox_id
from atolld.foundation.errors import InvalidArgument, NotFound


@pytest.mark.parametrize(
    "text, pairs",
    [("", {}), ("a=1", {"a": "1"}), ("a=1&b=", {"a": "1", "b": ""}), ("a%26=%3D+x", {"a&": "= x"})],
)
def test_pairs(text: str, pairs: dict[str, str]) -> None:
    assert metadata_filter(text) == pairs


@pytest.mark.parametrize("text", ["a", "a=1&b", "&&", "&".join(f"k{n}=v" for n in range(17))])
def test_what_is_no_pairs(text: str) -> None:
    with pytest.raises(InvalidArgument, match="metadata"):
        metadata_filter(text)


@pytest.mark.parametrize("text", ["", "x", "../../etc/passwd", "I" + "0" * 19, "i" + "0" * 20, "i000000000000000000\n"])
def test_what_cannot_be_an_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        sandbox_id(text)


def test_an_id() -> None:
    assert sandbox_id("i" + "0" * 19) == "i" + "0" * 19
