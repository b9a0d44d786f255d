import re
import time

import pytest

from labeling.rendering import render


def test_line_breaks_of_the_text_stay() -> None:
    assert render("roses are red\nviolets are blue") == "<p>roses are red<br>violets are blue</p>\n"


def test_html_in_the_text_is_shown_as_text() -> None:
    assert render('<img src=x onerror="fire()">') == "<p>&lt;img src=x onerror=&quot;fire()&quot;&gt;</p>\n"


def test_images_are_not_fetched() -> None:
    assert "<img" not in render("![a picture](https://example.com/x.png)")


@pytest.mark.parametrize("target", ["javascript:fire()", "data:text/html,x", "file:///etc/passwd", "JaVaScRiPt:fire()"])
def test_only_http_links_keep_their_target(target: str) -> None:
    assert "href" not in render(f"[link]({target})")
    assert 'href="https://example.com"' in render("[link](https://example.com)")


def test_tables_and_code_are_rendered() -> None:
    assert "<th>dose</th>" in render("| dose |\n|---|\n| 5 mg |")
    assert render("```\na  <  b\n```") == "<pre><code>a  &lt;  b\n</code></pre>\n"


def test_code_is_coloured_where_its_language_is_known_and_short_enough() -> None:
    assert '<span class="hl-k">return</span>' in render("```python\nreturn 1\n```")
    assert "<span" not in render("```klingon\nreturn 1\n```")
    assert "<span" not in render(f"```python\n{'x = 1' * 5000}\n```")


@pytest.mark.parametrize("text", ["$x_1$", r"\(x_1\)"])
def test_a_formula_becomes_mathml_within_its_line(text: str) -> None:
    expected = '<math display="inline"><mrow><msub><mi>x</mi><mn>1</mn></msub></mrow></math>'
    assert render(f"so {text} is") == f"<p>so {expected} is</p>\n"


@pytest.mark.parametrize("text", ["$$a = b$$", "$$\na\n= b\n$$", r"\[a = b\]", "\\[\na\n= b\n\\]"])
def test_a_formula_on_lines_of_its_own_is_no_heading(text: str) -> None:
    expected = '<math display="block"><mrow><mi>a</mi><mo>=</mo><mi>b</mi></mrow></math>'
    assert render(text).strip() in (expected, f"<p>{expected}</p>")


@pytest.mark.parametrize("text", ["$5 and $10", "US$5/$6", "$ x $", "a $ b", "$$", r"`$x$`", "costs 5$ or 6$"])
def test_dollars_that_are_money_stay_dollars(text: str) -> None:
    assert "<math" not in render(text)


@pytest.mark.parametrize("latex", [r"\frac{", r"\left(", "{" * 1500])
def test_a_formula_that_cannot_be_read_is_shown_as_it_was_written(latex: str) -> None:
    assert render(f"${latex}$") == f"<p><code>{latex}</code></p>\n"


def test_a_formula_holds_no_link_style_or_tag() -> None:
    shown = render(r"$\href{javascript:fire()}{x} \style{color:red}{y} \class{c}{z} \text{<img src=x>}$")
    assert re.findall(r'[a-z-]+="', shown) == ['display="']
    assert "&lt;img" in shown and "<img" not in shown


def test_a_very_long_answer_is_rendered_in_a_moment() -> None:
    text = "".join(f"Line {n} costs $5, or $x_{{{n}}}$.\n\n> " for n in range(5000)) + "$" * 5000 + "[" * 5000
    before = time.process_time()
    assert "Line 4999" in render(text)
    assert time.process_time() - before < 20
