"""Names from outside move no cursor, end no line and are no markup."""

import pytest

from fundusray import config
from fundusray.harmless import escaped_markdown, printable_text
from fundusray.models.bundle import model_card


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain é 眼", "plain é 眼"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r\t", "a\\x0ab\\x0d\\x09"),
        ("gpj\u202e.exe", "gpj\\u202e.exe"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_could_move_a_cursor_or_turn_text_is_shown_as_an_escape(given, shown):
    assert printable_text(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("[a](x) | `b` <i>&", "\\[a\\](x) \\| \\`b\\` &lt;i&gt;&amp;"),
        ("![x](http://evil/a.png)", "\\!\\[x\\](http&#58;//evil/a.png)"),
        ("https://evil.example", "https&#58;//evil.example"),
        ("www.evil.example me@evil.example", "www&#46;evil.example me&#64;evil.example"),
        ("**b** _i_ ~~s~~", "\\*\\*b\\*\\* \\_i\\_ \\~\\~s\\~\\~"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("No_DR, 1.5: a", "No_DR, 1.5: a"),
        ("a\n# b", "a\\\\x0a# b"),
    ],
)
def test_markdown_from_outside_is_text(given, shown):
    assert escaped_markdown(given) == shown


def test_a_card_is_no_door_for_markup():
    evil = ["<img src=x>", "![x](http://evil/a.png)", "[a](b)", "\x1b[31m", "ab\u202egnp", "**b**"]
    start = config.Model(init_from="/data/![x](http://evil)/bundle")
    recipe = config.Recipe(model=start)
    info = {"counts": [1] * len(evil), "place": "/x/[a](http://b)/<script>"}
    text = model_card(recipe, evil, info)
    for wrong in ("<", "![", "](", "http://", "\x1b", "\u202e", "**b"):
        assert wrong not in text.replace("\\]", "]\0"), wrong
    assert "\\!\\[x\\]" in text
