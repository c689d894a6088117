"""What bench/ draws, and the figures of others that it shows."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_bars_are_in_proportion() -> None:
    module = runpy.run_path(str(BENCH / "plot.py"))
    chart = module["Chart"](
        "a < b", "remark", ["ours", "theirs"], {"kws": {"ours": 1.0, "theirs": 2.0}, "ic": {"ours": 4.0}}
    )
    root = ElementTree.fromstring(module["svg"]([chart, chart]))
    widths = [int(r.attrib["width"]) for r in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths == [160, 320, 640] * 2
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("a < b") == 2 and texts.count("theirs") == 2


def test_published_cycles_are_plausible_and_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    module = runpy.run_path(str(BENCH / "mcu.py"))
    published = json.loads((BENCH / "data" / "published_cycles.json").read_text(encoding="utf-8"))
    assert set(published["macs"]) == set(module["NAMES"])
    row = module["Row"]("ad_ae_int8", "cortex-m4", "speed", True, 1, 2, 528384, 3, 4, 5, 6, 7, None, None, None)
    found = module["cycles_per_mac"]([row], published)
    assert found.pop("Luciole speed (est.)") == {"ad_ae_int8": 2.0}
    assert all(0.5 < per_mac < 10 for values in found.values() for per_mac in values.values())
    assert next(chart.title for chart in module["charts"]([row], published, "source")) == "cycles per MAC, cortex-m4"
