"""The panel's style sheets, which are all on one page."""

import re

from palate.ui.panel import theme


def test_a_class_has_its_rule_in_one_sheet():
    """Two ideas of one class would lay out each other."""
    ruled: dict[str, set[str]] = {}
    for sheet in theme.FOLDER.glob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.S)
        text = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", text)
        for name in re.findall(r"(?:^|\})\s*(\.[\w-]+)\s*\{", text):
            ruled.setdefault(name, set()).add(sheet.name)
    assert len(ruled) > 50
    assert {name: sheets for name, sheets in ruled.items() if len(sheets) > 1} == {}
