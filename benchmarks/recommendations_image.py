"""Draws docs/images/recommendations.svg: the list that `hierfed recommend` prints for a user of a run."""

from __future__ import annotations

import argparse
import io
import re
import time
from pathlib import Path

from rich.console import Console

from hierfed.report.terminal import recommendations_table
from hierfed.serving.served import Served

IMAGE = Path(__file__).parent.parent / "docs" / "images" / "recommendations.svg"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a folder of `hierfed run hierarchical`")
    parser.add_argument("--user", default="7")
    asked = parser.parse_args()
    console = Console(record=True, width=84, file=io.StringIO())
    console.print(recommendations_table(Served(asked.run).recommend(asked.user, 4, now=int(time.time()))))
    # Else the frame would cut the last line's feet.
    console.print()
    command = f"hierfed recommend runs/hierarchical --user {asked.user} -k 4"
    # Its fonts would be fetched from another host.
    drawn = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=command), flags=re.DOTALL)
    IMAGE.write_text(drawn, encoding="utf-8")
