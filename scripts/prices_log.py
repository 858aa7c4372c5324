"""Write docs/tutorials/prices.csv.gz, the log of two pricing algorithms.

`python scripts/prices_log.py`: two Q-learners set prices in the market of `pricing_study.py`, with
4 prices and 12,000 rounds before and after the fall of firm a's quality. A season has 4,000 rounds;
its row 0 holds the prices that were there before. The file has prices and no profits.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pricing_study import Market

TARGET = Path(__file__).parents[1] / "docs" / "tutorials" / "prices.csv.gz"
MARKET = Market(n_prices=4, n_steps=12_000, decay=2.5e-4, n_stages=3)


def lines(seed: int = 0) -> Iterator[str]:
    """The lines of the log, header first."""
    yield "season,round,a,b"
    names = MARKET.games()[0].actions
    assert names is not None
    prices = names[0]
    for season, stage in enumerate(MARKET.log(seed).stages, 1):
        steps = stage.transitions
        assert steps is not None
        assert steps.states is not None
        opening = np.unravel_index(int(steps.states[0]), (MARKET.n_prices, MARKET.n_prices))
        pairs = np.vstack([np.array(opening)[None], steps.joint_actions])
        for number, (a, b) in enumerate(pairs.tolist()):
            yield f"{season},{number},{prices[a]},{prices[b]}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=TARGET)
    chosen = parser.parse_args(arguments)
    text = "".join(f"{line}\n" for line in lines())
    chosen.output.write_bytes(gzip.compress(text.encode(), mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
