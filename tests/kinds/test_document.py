"""docs/kinds.md says of every kind what its class says."""

from kinds_document import DOCUMENT, document


def test_the_page_is_that_of_the_classes() -> None:
    assert DOCUMENT.read_text() == document(), "run: python tests/kinds_document.py"
