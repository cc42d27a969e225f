"""What SSGNet's own parts cost: `bench/stylegan3.py`, then `bench/selective_scan.py`, in one process.

    python bench/ssgnet.py                # three minutes on two cores
    python bench/ssgnet.py --quick        # tiny sizes, to see that it runs

Options are those that both have: --device, --batch, --repeats, --threads, --quick.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import selective_scan, stylegan3


def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    stylegan3.main()
    print()
    selective_scan.main()


if __name__ == "__main__":
    main()
