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
    assert render("```python\na  <  b\n```") == '<pre><code class="language-python">a  &lt;  b\n</code></pre>\n'
